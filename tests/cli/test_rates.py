from roundhouse.cli.rates import Rate, Rates, counted

METRICS = """# HELP roundhouse_requests_total Requests that have ended.
# TYPE roundhouse_requests_total counter
roundhouse_requests_total{engine="llamacpp",model="a b} c",status="200"} 3.0
roundhouse_requests_total{engine="llamacpp",model="d",status="500"} 1.0
roundhouse_requests_created{model="d"} 1.7e+09
roundhouse_completion_tokens_total{model="d"} 1.5e+03
"""


def test_counters_are_summed_over_their_labels():
    assert counted(METRICS) == (4.0, 1500.0)
    assert counted("") == (0.0, 0.0)


def look(requests, tokens):
    return f"roundhouse_requests_total {requests}\nroundhouse_completion_tokens_total {tokens}\n"


def test_a_rate_needs_two_looks_and_forgets_what_is_old():
    rates = Rates()
    rates.saw(100.0, look(10, 100))
    assert rates.now is None
    rates.saw(110.0, look(20, 600))
    assert rates.now == Rate(1.0, 50.0)
    for second in range(20, 61, 10):
        rates.saw(100.0 + second, look(20, 600))
    assert rates.now == Rate(0.0, 0.0)


def test_a_new_run_begins_anew():
    rates = Rates()
    rates.saw(0.0, look(10, 100))
    rates.saw(1.0, look(1, 1))
    assert rates.now is None
    rates.saw(2.0, look(3, 5))
    assert rates.now == Rate(2.0, 4.0)
