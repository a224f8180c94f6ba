import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundhouse.config.importers.shell import read
from roundhouse.config.importers.shell_words import UnreadableError


def last(text, home="/home/user"):
    return read(text, home).commands[-1].words


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a \\\n  b", ("a", "b")),
        ("M=/m/x\na -m $M -n ${M}y '$M' \"$M z\"", ("a", "-m", "/m/x", "-n", "/m/xy", "$M", "/m/x z")),
        ("M=${M:-/m/$N}\na $M", ("a", None)),
        ("N=n\nM=${M:-/m/$N}\na $M", ("a", "/m/n")),
        ('M=\nN=${M:-d}\na "$N" $M', ("a", "d")),
        ('X="--tp 2 --x"\na $X "$X"', ("a", "--tp", "2", "--x", "--tp 2 --x")),
        ('a $(cat x) `b` $1 ${X#y} $UNSET "$UNSET"', ("a", None, None, None, None, None, None)),
        ('a ~/x $HOME/y "~/z"', ("a", "/home/user/x", "/home/user/y", "~/z")),
        ("a *.gguf '*.gguf'", ("a", None, "*.gguf")),
        ("a '' \"\"", ("a", "", "")),
        ("a $", ("a", "$")),
        ("a b#c # d", ("a", "b#c")),
        ('a "x\\"y\\$z\\q"', ("a", 'x"y$z\\q')),
        ("export A=1; b $A", ("b", "1")),
        ("cd /x && a", ("a",)),
    ],
)
def test_the_words_of_a_command(text, wanted):
    assert last(text) == wanted


def test_without_a_known_home_its_paths_are_not_guessed():
    assert read("a ~/x $HOME", None).commands[0].words == ("a", None, None)


def test_what_a_script_does_to_itself():
    script = read(
        "set -e\nsource /v/bin/activate\nexport A=1 B\nB=2\nexport B\nunset A\ncd /x\ncd y\nC=3 exec env D=4 a --x\n",
        None,
    )
    assert (script.folder, script.venv, script.exported, script.doubts) == ("/x/y", "/v", {"B": "2"}, [])
    (command,) = script.commands
    assert (command.words, command.env, command.execs) == (("a", "--x"), {"C": "3", "D": "4"}, True)


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        ("if x; then\n a\nfi", "'if'"),
        ("a | tee log", "'|'"),
        ("a &", "'&'"),
        ("(a)", "'('"),
        ("nohup a", "nohup"),
        ("a > log 2>&1", "redirected"),
        ("source other.sh", "another script"),
        ("cd $X", "folder"),
        ("export $X", "exports"),
    ],
)
def test_what_cannot_be_told_is_a_doubt(text, doubt):
    script = read(text, None)
    assert any(doubt in said for said in script.doubts)


@pytest.mark.parametrize(
    "text",
    [
        "P=1\nif [ -x y ]; then\n  P=2\nelse\n  P=3\nfi\na $P",
        "P=1\nif x; then P=2; fi\na $P",
        "P=1\n[ -n x ] && P=2\na $P",
        "P=1\nx || export P=2\na $P",
        "P=1\nexport P=$(x)\na $P",
        "export P\nP=`x`\na $P",
        "P=1\nwhile x; do P=2; done; a $P",
    ],
)
def test_what_is_set_under_a_condition_is_not_known(text):
    assert last(text) == ("a", None)


def test_what_is_set_after_a_condition_is_known():
    assert last("if x; then P=2; fi\nP=3\na $P") == ("a", "3")


def test_redirections_are_no_words():
    assert last("exec a -m x > log 2>&1 < /dev/null") == ("a", "-m", "x")
    assert last("a >> $LOG") == ("a",)


@given(st.text(alphabet="a'\"\\$`(){}<>|&; \n#=~*", max_size=30))
def test_any_text_is_read_or_refused(text):
    try:
        read(text, "/h")
    except UnreadableError:
        pass
