from roundhouse.engines.llamacpp import flags


def test_either_name_of_a_flag_counts_as_given():
    assert flags.given(("--ctx-size", "4096"), flags.CONTEXT)
    assert flags.given(("-c", "4096"), flags.CONTEXT)
    assert not flags.given(("-ctk", "q8_0"), flags.CONTEXT)


def test_the_contrary_of_a_flag_counts_as_given():
    assert flags.given(("--warmup",), flags.NO_WARMUP)


def test_the_last_value_wins_as_in_llama_server():
    assert flags.number(("-c", "1024", "--ctx-size", "2048"), flags.CONTEXT) == 2048


def test_a_flag_without_value_and_one_that_is_no_number_say_nothing():
    assert flags.value(("-c",), flags.CONTEXT) is None
    assert flags.number(("-c", "lots"), flags.CONTEXT) is None
