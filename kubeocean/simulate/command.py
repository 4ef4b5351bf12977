"""One run of `kubeocean simulate`: read, put together, simulate, print, draw.

Whatever the user can mend is a line of its own on stderr: exit code 2 for input, 1 for a cluster that does not answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.text import Text

from kubeocean.api.zone import is_zone
from kubeocean.kube.errors import ConfigError, KubeError
from kubeocean.simulate.eviction import forecast_evictions
from kubeocean.simulate.files import read_files
from kubeocean.simulate.given import BadInput, Given, Side
from kubeocean.simulate.live import Live, read_clusters
from kubeocean.simulate.picture import draw_schedule
from kubeocean.simulate.png import PillowMissing, render_png
from kubeocean.simulate.schedule import Schedule, Week, plan
from kubeocean.simulate.shapes import Picture
from kubeocean.simulate.svg import render_svg
from kubeocean.simulate.table import print_forecasts, print_schedule
from kubeocean.simulate.world import World, build_world

_WIDE = 140  # columns, when nobody's terminal limits them
_PAINTERS: dict[str, Callable[[Picture], bytes]] = {
    ".svg": lambda picture: render_svg(picture).encode(), ".png": render_png,
}


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked, as text where it has to be checked still. `begin` "" is now, `time_zone` "" is up to us."""

    files: tuple[Path, ...] = ()
    lender_files: tuple[Path, ...] = ()
    kubeconfig: Path | None = None
    physical_kubeconfig: Path | None = None
    binding: str = ""
    default_time_zone: str = "UTC"
    begin: str = ""
    days: int = 7
    resources: str = "cpu,memory"
    time_zone: str = ""
    outputs: tuple[Path, ...] = ()
    reclaim: bool = False

    @property
    def is_live(self) -> bool:
        """Tell whether clusters are to be asked."""
        return self.kubeconfig is not None or self.physical_kubeconfig is not None or not (self.files or self.lender_files)


def run_simulation(request: Request, *, now: datetime | None = None) -> int:
    """Do what is asked; return the exit code. `now` is for tests."""
    errors = Console(stderr=True, soft_wrap=True)
    try:
        _simulate(request, now or datetime.now(UTC))
    except BadInput as error:
        for problem in error.problems:
            errors.print(Text(f"error: {problem}", style="red"))
        return 2
    except PillowMissing as error:
        errors.print(Text(f"error: --output: {error}", style="red"))
        return 2
    except ConfigError as error:
        errors.print(Text(f"error: {error}", style="red"))
        return 2
    except (KubeError, OSError) as error:
        errors.print(Text(f"error: {error}", style="red"))
        return 1
    return 0


def read_schedule(request: Request, now: datetime) -> tuple[Schedule, tuple[str, ...]]:
    """Read and simulate what is asked; return it with the resources to show. Raises BadInput and KubeError."""
    resources = _check(request)
    world = _world(request)
    zone = ZoneInfo(request.time_zone) if request.time_zone else _zone_of(world, request.default_time_zone)
    schedule = plan(world, _week(request, zone, now), now=now)
    _check_resources(resources, schedule)
    return schedule, resources


def _simulate(request: Request, now: datetime) -> None:
    schedule, resources = read_schedule(request, now)
    _draw(request.outputs, schedule, resources, now)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    print_schedule(console, schedule, resources)
    if request.reclaim:
        print_forecasts(console, schedule.week, forecast_evictions(schedule.world, schedule.week, now=now))
    for path in request.outputs:
        console.print(Text(f"\nDrawn: {path}"), soft_wrap=True)


def _draw(outputs: Sequence[Path], schedule: Schedule, resources: Sequence[str], now: datetime) -> None:
    """Draw, before anything is printed: who reads a few lines and shuts the pipe still gets the picture."""
    if outputs:
        picture = draw_schedule(schedule, resources, now=now)
        for path in outputs:
            path.write_bytes(_PAINTERS[path.suffix.lower()](picture))


# --- checking --------------------------------------------------------------------------------------------------------
def _check(request: Request) -> tuple[str, ...]:
    """Return the resources; raises BadInput with all that is wrong with the flags."""
    problems = []
    for flag, name in (("--time-zone", request.time_zone), ("--default-time-zone", request.default_time_zone)):
        if name and not is_zone(name):
            problems.append(f"{flag}: {name!r} is no known time zone; write an IANA zone such as Europe/Berlin or UTC")
    for path in request.outputs:
        if path.suffix.lower() not in _PAINTERS:
            problems.append(f"--output: {path} ends neither with .svg nor with .png; rename it")
        elif not path.parent.is_dir():
            problems.append(f"--output: there is no folder {path.parent}; create it")
    resources = tuple(dict.fromkeys(filter(None, (name.strip() for name in request.resources.split(",")))))
    if not resources:
        problems.append("--resource: name at least one, such as cpu,memory")
    if request.begin:
        try:
            _parse_begin(request.begin, ZoneInfo("UTC"))
        except ValueError:
            problems.append(
                f"--from: {request.begin!r} is no time; write a date such as 2026-03-23, or 2026-03-23T08:00:00+01:00"
            )
    if problems:
        raise BadInput(problems)
    return resources


def _check_resources(resources: Sequence[str], schedule: Schedule) -> None:
    known = sorted({name for lease in schedule.nodes for name in lease.allocatable})
    unknown = [name for name in resources if name not in known]
    if unknown:
        raise BadInput([f"--resource: no node has {name}; choose of {', '.join(known)}" for name in unknown])


# --- when ------------------------------------------------------------------------------------------------------------
def _parse_begin(text: str, zone: ZoneInfo) -> datetime:
    if not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError(text)
    moment = datetime.fromisoformat(text)
    if not 1971 <= moment.year <= 9000:  # time zones and weeks to come need some room on both sides
        raise ValueError(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def _week(request: Request, zone: ZoneInfo, now: datetime) -> Week:
    begin = _parse_begin(request.begin, zone) if request.begin else now
    end = begin.astimezone(zone) + timedelta(days=request.days)  # by the calendar: a day may have 23 hours
    return Week(begin, end, zone, request.default_time_zone)


def _zone_of(world: World, default_zone: str) -> ZoneInfo:
    """Return the zone people think in: the one of the policies if they have but one, else the binding's."""
    usual = world.binding.time_zone or default_zone
    policies = (*world.policies, *(world.lender.policies or ()))
    zones = {policy.spec.time_zone or usual for policy in policies if policy.spec and policy.spec.time_windows}
    return ZoneInfo(zones.pop() if len(zones) == 1 else usual)


# --- what ------------------------------------------------------------------------------------------------------------
def _world(request: Request) -> World:
    given = _read_all(request)
    if not request.is_live:
        return build_world(given, binding=request.binding)
    live = asyncio.run(_fetch(request))
    return build_world(
        [*live.given, *given], binding=live.binding_name, owner=live.owner, lender_trouble=live.lender_trouble,
    )


def _read_all(request: Request) -> list[Given]:
    return [*read_files(request.files, Side.EITHER), *read_files(request.lender_files, Side.PHYSICAL)]


async def _fetch(request: Request) -> Live:
    return await read_clusters(
        request.kubeconfig, physical_kubeconfig=request.physical_kubeconfig, binding=request.binding,
    )
