"""What does not come from flags."""

from kubeocean.settings import process_identity


def test_no_two_processes_have_the_same_identity_not_even_with_the_same_number() -> None:
    assert len({process_identity() for _ in range(100)}) == 100
