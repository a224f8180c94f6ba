import pytest

from roundhouse.app.hub.offers import HubFile, choose, offers, parse
from roundhouse.app.hub.problems import NoSuchOffer

GGUFS = {
    "README.md": 3,
    "imatrix.dat": 9,
    "Tiny-8B-Q4_K_M.gguf": 40,
    "Tiny-8B-UD-Q2_K_XL.gguf": 20,
    "Tiny-8B-IQ3_XXS.gguf": 30,
    "BF16/Tiny-8B-BF16-00001-of-00002.gguf": 100,
    "BF16/Tiny-8B-BF16-00002-of-00002.gguf": 90,
    "Q8_0/half-00001-of-00003.gguf": 80,
    "mmproj-F32.gguf": 8,
    "mmproj-F16.gguf": 4,
    "imatrix.gguf": 7,
}


def files(sizes):
    return tuple(HubFile(path, size) for path, size in sizes.items())


def found(sizes=GGUFS):
    return offers("me/Tiny-8B-GGUF", files(sizes))


def test_each_quantisation_is_an_offer_the_smallest_first():
    assert [(offer.name, offer.size) for offer in found()] == [
        ("UD-Q2_K_XL", 24),
        ("IQ3_XXS", 34),
        ("Q4_K_M", 44),
        ("Q8_0", 84),
        ("BF16", 194),
    ]


def test_a_projector_comes_with_it_and_the_first_part_last():
    split = found()[-1]
    assert [file.path for file in split.files] == [
        "mmproj-F16.gguf",
        "BF16/Tiny-8B-BF16-00002-of-00002.gguf",
        "BF16/Tiny-8B-BF16-00001-of-00002.gguf",
    ]
    assert (split.model, split.lead) == ("Tiny-8B-BF16", "BF16/Tiny-8B-BF16-00001-of-00002.gguf")


@pytest.mark.parametrize("choice", ["Q4_K_M", "q4_k_m", "Tiny-8B-Q4_K_M.gguf", "tiny-8b-q4_k_m.GGUF"])
def test_a_choice_is_a_quantisation_or_a_file(choice):
    assert choose("r", found(), choice).model == "Tiny-8B-Q4_K_M"


def test_a_part_names_its_model():
    assert choose("r", found(), "BF16/Tiny-8B-BF16-00002-of-00002.gguf").name == "BF16"


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("", "has 5 to choose from: say which, r:UD-Q2_K_XL"),
        ("Q5_K_M", "r has no Q5_K_M"),
        ("Q8_0", "lacks half-00002-of-00003.gguf, half-00003-of-00003.gguf"),
    ],
)
def test_what_can_not_be_had(choice, said):
    with pytest.raises(NoSuchOffer, match=said):
        choose("r", found(), choice)


def test_two_of_one_quantisation_are_told_apart_by_their_files():
    both = found({"a-Q4_0.gguf": 1, "b-Q4_0.gguf": 2})
    with pytest.raises(NoSuchOffer, match=r"has 2 named Q4_0: give the file, one of a-Q4_0.gguf, b-Q4_0.gguf"):
        choose("r", both, "Q4_0")
    assert choose("r", both, "b-Q4_0.gguf").model == "b-Q4_0"


def test_the_only_one_need_not_be_named():
    assert choose("r", found({"model.gguf": 1}), "").name == "model"


def test_a_repository_of_safetensors_is_one_model_without_its_other_formats():
    sizes = {
        "config.json": 1,
        "model-00001-of-00002.safetensors": 50,
        "model-00002-of-00002.safetensors": 40,
        "model.safetensors.index.json": 2,
        "tokenizer.json": 3,
        "tokenizer.model": 3,
        "chat_template.jinja": 1,
        "pytorch_model.bin": 99,
        "consolidated.safetensors": 99,
        "onnx/model.safetensors": 99,
        "README.md": 1,
    }
    (offer,) = offers("me/Tiny-8B", files(sizes))
    assert (offer.name, offer.model, offer.lead, offer.size) == ("safetensors", "Tiny-8B", "", 100)
    assert offer.files[-1].path == "config.json"


@pytest.mark.parametrize("sizes", [{}, {"README.md": 1}, {"model.safetensors": 1}, {"config.json": 1}])
def test_a_repository_with_nothing_to_run(sizes):
    with pytest.raises(NoSuchOffer, match="nothing to run"):
        choose("r", found(sizes), "")


@pytest.mark.parametrize("path", ["a/.gguf", "x\\..\\y.gguf", "a\n.gguf", ".hidden.gguf"])
def test_names_that_are_no_plain_names_are_not_offered(path):
    assert found({path: 1}) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("me/Tiny", ("me/Tiny", "")),
        ("me/Tiny:Q4_K_M", ("me/Tiny", "Q4_K_M")),
        ("hf.co/me/Tiny:Q4_K_M", ("me/Tiny", "Q4_K_M")),
        ("https://huggingface.co/me/Tiny/", ("me/Tiny", "")),
        ("me/Tiny:BF16/a-00001-of-00002.gguf", ("me/Tiny", "BF16/a-00001-of-00002.gguf")),
    ],
)
def test_how_a_model_is_named(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", "tiny", "a/b/c", "../x", "me/", "/etc/passwd", "https://other.example/me/Tiny"])
def test_what_names_no_repository(text):
    with pytest.raises(NoSuchOffer, match="names no repository"):
        parse(text)
