"""The tables were taken from apimachinery v0.34.4 (ParseQuantity, then CanonicalizeBytes), not from our own output."""

from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kubeocean.kube.quantity import ZERO, Form, InvalidQuantity, Quantity, parse

CANONICAL = {
    "zero has no suffix": {"0": "0", "0Ki": "0", "-0": "0", "0e99": "0"},
    "a sign and leading zeros are read": {"+5": "5", "-5": "-5", "00012": "12", ".5": "500m", "5.": "5"},
    "the largest suffix that leaves a whole number is chosen": {
        "1000m": "1", "1500m": "1500m", "86400m": "86400m", "1000u": "1m", "999999n": "999999n", "1000000": "1M",
        "100k": "100k", "12.345k": "12345", "1.500": "1500m", "0.1": "100m", "1E": "1E",
        "9223372036854775807": "9223372036854775807", "123456789.123456789": "123456789123456789n",
    },
    "a binary amount keeps its form": {
        "1Ki": "1Ki", "1000Ki": "1000Ki", "1023Ki": "1023Ki", "1024Mi": "1Gi", "2048Ki": "2Mi", "-2048Ki": "-2Mi",
        "1.5Gi": "1536Mi", "0.5Gi": "512Mi", "-1.5Gi": "-1536Mi", "1Ei": "1Ei",
    },
    "a plain number stays decimal": {"1024": "1024", "512": "512"},
    "a binary amount that is small or has a fraction is written in decimal": {
        "0.1Ki": "102400m", "0.0001Ki": "102400u", "1.0001Ki": "1024102400u", "3.3Ti": "3628388371660800m",
        "1.0000000001Gi": "1073741824107374183n",
    },
    "what is finer than a nano is rounded up, away from zero": {
        "1.5n": "2n", "0.1n": "1n", "-0.1n": "-1n", "1e-12": "1e-9", "-1e-10": "-1e-9", "0.000000001": "1n",
        "1e-999999999999": "1e-9",
    },
    "a binary amount stops at the largest int64": {
        "8Ei": "9223372036854775807", "16Ei": "9223372036854775807", "-16Ei": "-9223372036854775807",
    },
    "a decimal amount does not": {
        "9223372036854775808": "9223372036854775808",
        "123456789012345678901234567890": "123456789012345678901234567890",
    },
    "an exponent is kept, as a multiple of three": {
        "1e3": "1e3", "1E3": "1e3", "12e6": "12e6", "12e5": "1200e3", "1e20": "100e18", "4e+2": "400", "4e-2": "40e-3",
        "1e100": "10e99",
    },
    "above the last suffix an exponent saves the value, where apimachinery loses it": {"1000E": "1e21"},
    "blanks around it do not matter": {" 2Gi\n": "2Gi"},
}

REFUSED = (
    "", " ", "+", ".", "m", "1e", "1K", "1ki", "abc", "1 Gi", "1.2.3", "1e1.5", "--1", "0x10", "1_000", "٣", "1e101",
    "9" * 129, "NaN", "inf",
)


@pytest.mark.parametrize("promise", CANONICAL)
def test_canonical_text(promise: str) -> None:
    assert {text: str(parse(text)) for text in CANONICAL[promise]} == CANONICAL[promise]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_quantity_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(InvalidQuantity, match="write "):
        parse(text)


@pytest.mark.parametrize("value", [True, float("nan"), float("inf")])
def test_what_only_looks_like_a_number_is_refused(value: float) -> None:
    with pytest.raises(InvalidQuantity):
        parse(value)


def test_a_long_text_is_not_repeated_in_the_message() -> None:
    with pytest.raises(InvalidQuantity) as error:
        parse("x" * 10_000)
    assert len(str(error.value)) < 200


def test_bare_yaml_numbers_are_read() -> None:
    assert [str(parse(value)) for value in (4, 0.5, 1e22, -3)] == ["4", "500m", "10e21", "-3"]
    assert Quantity.parse(4) == parse("4")


def test_comparing_looks_at_the_value_and_not_at_the_form() -> None:
    assert parse("1Gi") == parse("1073741824")
    assert hash(parse("1Gi")) == hash(parse("1073741824"))
    assert parse("999m") < parse("1") < parse("1001m")
    assert min(parse("2Gi"), parse("2G")) == parse("2G")


def test_zero_is_false_and_takes_the_form_of_what_is_added() -> None:
    assert not ZERO
    assert not parse("0Gi")
    assert str(sum((parse("1Gi"), parse("1Gi")), ZERO)) == "2Gi"
    assert (ZERO - parse("1Gi")).form is Form.BINARY_SI
    assert (parse("1") + parse("1Gi")).form is Form.DECIMAL_SI


def test_a_percent_of_a_gpu_is_rounded_down() -> None:
    assert parse("1").percent(90).whole() == 0
    assert str(parse("8").percent(90).floor()) == "7"
    assert str(parse("-1500m").floor()) == "-2"


def test_a_percent_is_exact_down_to_a_nano() -> None:
    assert str(parse("96").percent(90)) == "86400m"
    assert str(parse("10Gi").percent(50)) == "5Gi"
    assert str(parse("1n").percent(99)) == "0"


def test_thousandths_are_rounded_up_as_kubernetes_does() -> None:
    assert [parse(text).milli() for text in ("1", "1500m", "1u", "0", "1Ki")] == [1000, 1500, 1, 0, 1_024_000]


def test_times_and_minus() -> None:
    assert str(parse("250m") * 3) == "750m"
    assert str(-parse("2Gi")) == "-2Gi"
    assert str(parse("1") - parse("1500m")) == "-500m"


amounts = st.integers(-(10**40), 10**40)
forms = st.sampled_from(Form)
quantities = st.builds(Quantity, amounts, forms)


@given(quantities)
@example(Quantity(2**73 * 10**9, Form.BINARY_SI))
@example(Quantity(-1024 * 10**9, Form.BINARY_SI))
@example(Quantity(15_625_000 * 10**9, Form.BINARY_SI))
def test_the_text_of_a_quantity_is_read_back_to_the_same_value(original: Quantity) -> None:
    again = parse(str(original))
    # Only a binary suffix has the cap of a binary amount.
    if again.form is Form.BINARY_SI and abs(original.nano) > (2**63 - 1) * 10**9:
        assert abs(again.nano) == (2**63 - 1) * 10**9
    else:
        assert again == original
        # A binary amount that no suffix divides is written without one, and who reads it back takes it for a decimal.
        if original.form is not Form.BINARY_SI or again.form is Form.BINARY_SI:
            assert str(again) == str(original)
        else:
            assert again.form is Form.DECIMAL_SI
            assert str(parse(str(again))) == str(again), "from then on its text stays the same"


SUFFIXES = {
    "": Fraction(1), "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 10**3), "k": Fraction(10**3),
    "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12), "P": Fraction(10**15), "E": Fraction(10**18),
    "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30), "Ti": Fraction(2**40), "e7": Fraction(10**7),
    "e-5": Fraction(1, 10**5), "E+2": Fraction(100),
}


@given(st.integers(0, 99_999), st.integers(0, 999_999), st.sampled_from(sorted(SUFFIXES)))
def test_reading_is_exact_and_rounds_up_by_less_than_a_nano(whole: int, fraction: int, suffix: str) -> None:
    exact = (whole + Fraction(fraction, 10**6)) * SUFFIXES[suffix]
    read = Fraction(parse(f"{whole}.{fraction:06}{suffix}").nano, 10**9)
    assert 0 <= read - exact < Fraction(1, 10**9)


@given(quantities, quantities)
def test_adding_and_subtracting_are_exact(one: Quantity, other: Quantity) -> None:
    assert one + other - other == one
    assert (one + other).nano == (other + one).nano


@given(st.integers(0, 10**30), st.integers(0, 100))
def test_a_percent_is_never_more_than_the_share_nor_a_nano_less(nano: int, share: int) -> None:
    part = Quantity(nano).percent(share)
    assert 0 <= nano * share - part.nano * 100 < 100


@given(st.text(max_size=20))
@example("1\n2")
def test_any_text_is_either_read_or_refused(text: str) -> None:
    with suppress(InvalidQuantity):
        assert isinstance(parse(text), Quantity)
