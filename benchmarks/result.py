"""What a benchmark tells: a figure of ours beside that of a peer or a limit, from the same run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """`ratio` says how good it is: 1 is as good as the peer, or at the limit; more is better."""

    what: str
    ours: str
    beside: str
    ratio: float

    def __str__(self) -> str:
        ratio = f"{self.ratio:.2f}" if self.ratio >= 0.1 else f"{self.ratio:.4f}"
        return f"| {self.what} | {self.ours} | {self.beside} | {ratio} |"


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
