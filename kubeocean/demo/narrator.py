"""How the demo is told: with colour and a live line on a terminal, as plain lines anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.text import Text

from kubeocean.sandbox.progress import Progress, open_progress

_WIDE = 100  # columns; on fewer, a cut table loses what it is shown for (the node of a Pod), so it is wrapped


class Narrator:
    """Writes to `stream`; what a command says is shown as it is, only too long a line is cut to fit a wide terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # Asked of the stream itself: rich takes $FORCE_COLOR for a terminal.
        self._console = Console(file=stream, force_terminal=stream.isatty(), highlight=False)
        self._live = stream.isatty() and not self._console.is_dumb_terminal

    def headline(self, text: str) -> None:
        """Open a chapter."""
        self._print(f"\n{text}", "bold cyan")

    def say(self, text: str) -> None:
        """Tell something in a sentence."""
        self._print(text)

    def command(self, line: str) -> None:
        """Show a command line, ready to be copied."""
        self._print(f"\n$ {line}", "bold", whole=True)

    def output(self, line: str) -> None:
        """Show a line that a command wrote."""
        self._print(line, cut=True)

    def observed(self, what: str, seconds: float) -> None:
        """Tell what has been seen, and after how long."""
        self._print(f"\n✓ {what} ({seconds:.1f} s)", "green")

    def failed(self, text: str) -> None:
        """Tell that something has not been seen."""
        self._print(f"\n✗ {text}", "bold red")

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Give a progress for something that takes time; say nothing else meanwhile."""
        with open_progress(self._stream) as progress:
            yield progress

    @contextmanager
    def waiting(self) -> Iterator[Callable[[str], None]]:
        """Give a function that tells what is still waited for."""
        with self.progress() as progress:
            yield lambda text: progress.show(f"waiting: {text}")

    def _print(self, text: str, style: str = "", *, cut: bool = False, whole: bool = False) -> None:
        # `whole`: no line breaks of ours, which would be copied with the line. Off a terminal that is so for every line.
        cut = cut and self._live and self._console.width >= _WIDE
        self._console.print(
            Text(text, style), no_wrap=cut, overflow="ellipsis" if cut else None, soft_wrap=whole or not self._live,
        )
