"""A binding that is being served: what an edit may break, and what not."""

from typing import Any

import pytest

from kubeocean.api.binding import parse_binding, parse_served_binding
from kubeocean.api.model import InvalidObject
from kubeocean.api.zone import UNKNOWN_ZONE
from kubeocean.kube.meta import Json

SPEC: Json = {"clusterID": "edge", "secretRef": {"name": "s", "namespace": "n"}, "mountNamespace": "mount"}


def binding(**spec: Any) -> Json:
    return {"spec": SPEC | spec}


def test_what_is_well_is_read_as_ever() -> None:
    for good in (binding(), binding(timeZone="Europe/Berlin")):
        assert parse_served_binding(good) == parse_binding(good)


def test_a_time_zone_that_nobody_knows_is_read_as_such() -> None:
    misspelt = binding(timeZone="Europe/Berln", directScheduling=True)
    with pytest.raises(InvalidObject):
        parse_binding(misspelt)
    spec = parse_served_binding(misspelt)
    assert spec.time_zone == UNKNOWN_ZONE
    assert spec == parse_binding(binding(directScheduling=True)).model_copy(update={"time_zone": UNKNOWN_ZONE})


def test_the_word_for_it_is_no_zone_that_one_could_write() -> None:
    with pytest.raises(InvalidObject):
        parse_binding(binding(timeZone=UNKNOWN_ZONE))


@pytest.mark.parametrize("spec", [{"mountNamespace": "No_"}, {"timeZone": "Nowhere/Else", "mountNamespace": "No_"}])
def test_whatever_else_is_wrong_is_refused(spec: Json) -> None:
    with pytest.raises(InvalidObject):
        parse_served_binding(binding(**spec))
