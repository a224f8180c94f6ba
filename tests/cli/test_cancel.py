from tests.cli.commands import error, run_here, stub


def test_it_says_what_was_cancelled_and_quotes_the_id():
    told = {"id": "a/b c", "cancelled": "waiting", "model": "m"}
    with stub({"POST /api/v1/requests/a%2Fb%20c/cancel": (200, told)}) as there:
        shown = run_here("cancel", "a/b c", ROUNDHOUSE_URL=there.url)
        assert (shown.code, shown.out) == (0, "a/b c is cancelled; it was waiting for m.\n")
        assert run_here("cancel", "a/b c", "--json", ROUNDHOUSE_URL=there.url).json == told


def test_a_refusal_is_exit_code_4():
    with stub({"POST /api/v1/requests/x/cancel": (409, error("The request 'x' has ended already."))}) as there:
        shown = run_here("cancel", "x", ROUNDHOUSE_URL=there.url)
    assert (shown.code, shown.err) == (4, "roundhouse: The request 'x' has ended already.\n")
