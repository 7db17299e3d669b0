"""Metrics in Prometheus' text format, version 0.0.4: a name, its help and type, its samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

#: Of the answer that carries the text.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_Samples = Iterable[tuple[Mapping[str, str], float]]


class Text:
    """A page of metrics; `str` of it is the text."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def __str__(self) -> str:
        return "".join(f"{line}\n" for line in self._lines)

    def counter(self, name: str, help_text: str, samples: _Samples) -> None:
        """Numbers that only grow; the name ends in ``_total``."""
        self._metric(name, help_text, "counter", samples)

    def gauge(self, name: str, help_text: str, samples: _Samples) -> None:
        """Numbers that rise and fall."""
        self._metric(name, help_text, "gauge", samples)

    def histogram(
        self,
        name: str,
        help_text: str,
        edges: Sequence[float],
        counts: Sequence[int],
        total: float,
    ) -> None:
        """How values spread.

        Parameters
        ----------
        edges
            Upper edges of the bins, ascending; the last bin has none.
        counts
            In each bin, one more than there are edges.
        total
            Sum of all values.
        """
        self._head(name, help_text, "histogram")
        below = 0
        for edge, count in zip(edges, counts[:-1], strict=True):
            below += count
            self._sample(f"{name}_bucket", {"le": _number(edge)}, below)
        everything = sum(counts)
        self._sample(f"{name}_bucket", {"le": "+Inf"}, everything)
        self._sample(f"{name}_sum", {}, total)
        self._sample(f"{name}_count", {}, everything)

    def _metric(self, name: str, help_text: str, kind: str, samples: _Samples) -> None:
        self._head(name, help_text, kind)
        for labels, value in samples:
            self._sample(name, labels, value)

    def _head(self, name: str, help_text: str, kind: str) -> None:
        self._lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]

    def _sample(self, name: str, labels: Mapping[str, str], value: float) -> None:
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        self._lines.append(f"{name}{f'{{{inside}}}' if inside else ''} {_number(value)}")


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return f"{value:.10g}"
