import cProfile
from pathlib import Path

import pytest

from kubeocean.bench.profiling import SHOWN, function_name, read_hotspots

NAMES = {
    ("/opt/python/lib/python3.11/site-packages/aiohttp/client.py", 5, "_request"): "aiohttp/client.py:5 _request",
    ("/somewhere/kubeocean/kube/store.py", 80, "put"): "kubeocean/kube/store.py:80 put",
    ("/usr/lib/python3.11/json/decoder.py", 7, "decode"): "3.11/json/decoder.py:7 decode",
    ("~", 0, "<built-in method len>"): "<built-in method len>",
    ("<string>", 1, "<module>"): "<string>:1 <module>",
}


@pytest.mark.parametrize(("function", "name"), NAMES.items(), ids=NAMES.values())
def test_a_function_is_called_by_its_module(function: tuple[str, int, str], name: str) -> None:
    assert function_name(*function) == name


def test_hotspots_are_those_with_the_most_time_of_their_own(tmp_path: Path) -> None:
    profile = cProfile.Profile()
    profile.runcall(sorted, range(1000), key=str)
    profile.dump_stats(tmp_path / "profile")
    found = read_hotspots(tmp_path / "profile")
    assert 0 < len(found) <= SHOWN
    assert [each.own for each in found] == sorted((each.own for each in found), reverse=True)
    assert any("sorted" in each.function for each in found)
