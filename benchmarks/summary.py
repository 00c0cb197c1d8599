"""Rows, sums and tables of what was timed."""

import dataclasses

from active_convolution.command import aligned

from . import contestants


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer at one batch; ``times`` as Benchmark.time returns them."""

    set: str
    layer: str
    batch: int
    gflop: float  # of the forward pass
    gigabytes: tuple  # of the forward and the backward pass
    difference: float  # from the oracle, relative
    times: dict

    def products(self, which, limits):
        """Milliseconds of a pass's products at the machine's peak, or, where that is not known, at
        a library's best rate."""
        return (
            1e3
            * self.gflop
            * (1 if which == "forward" else 2)
            / (limits.get("gflops_peak") or limits["gflops"])
        )

    def limit(self, which, limits):
        """The least milliseconds that a pass can take: its products, or what it must move."""
        moved = self.gigabytes[contestants.PASSES.index(which)] / limits["gigabytes_per_second"]
        return max(self.products(which, limits), 1e3 * moved)


def sums(rows, limits):
    """{(set, batch): {contestant or "limit": {"forward", "backward", "both": milliseconds}}}"""
    found = {}
    for row in rows:
        of_set = found.setdefault((row.set, row.batch), {})
        for name, times in row.times.items():
            for which in contestants.PASSES:
                _add(of_set, name, which, times[which].median)
        for which in contestants.PASSES:
            _add(of_set, "limit", which, row.limit(which, limits))
    return found


def _add(of_set, name, which, milliseconds):
    each = of_set.setdefault(name, dict.fromkeys((*contestants.PASSES, "both"), 0.0))
    each[which] += milliseconds
    each["both"] += milliseconds


def table(title, rows, limits):
    """The lines of one set at one batch: milliseconds (and half the distance of the quartiles), the
    fraction of the limit that ours reaches, our times relative to the others', and the peak of
    memory beside the blobs."""
    names = list(rows[0].times)
    total = sums(rows, limits)[rows[0].set, rows[0].batch]
    lines = []
    for which in contestants.PASSES:
        lines.append([which, *names, "limit", "of limit"])
        for row in rows:
            times = (row.times[name][which] for name in names)
            cells = [f"{time.median:.3g} ± {50 * time.spread:.0f} %" for time in times]
            ours = row.times[contestants.ACTIVE][which].median
            lines.append([row.layer, *cells, *_of_limit(row.limit(which, limits), ours)])
        cells = [f"{total[name][which]:.4g}" for name in names]
        lines.append(
            ["sum, ms", *cells, *_of_limit(total["limit"][which], total[contestants.ACTIVE][which])]
        )
    for which in (*contestants.PASSES, "both"):
        cells = [f"{total[contestants.ACTIVE][which] / total[name][which]:.2f}" for name in names]
        lines.append([f"ours relative, {which}", *cells, "", ""])
    if all(times["memory"] is not None for row in rows for times in row.times.values()):
        cells = [f"{max(row.times[name]['memory'] for row in rows):.1f}" for name in names]
        lines.append(["peak workspace, MiB", *cells, "", ""])
    yield f"{title}, batch {rows[0].batch}"
    for line in aligned(lines, right=True):
        yield "  " + "  ".join(line).rstrip()


def _of_limit(limit, ours):
    return f"{limit:.3g}", f"{100 * limit / ours:.0f} %"


def as_json(rows, limits, settings, bars):
    """Everything, for json.dump."""
    return {
        "settings": settings,
        "machine": limits,
        "layers": [dataclasses.asdict(row) for row in rows],
        "sums": [
            {"set": name, "batch": batch, "milliseconds": times}
            for (name, batch), times in sums(rows, limits).items()
        ],
        "bars": [{**dataclasses.asdict(bar), "reached": bar.reached} for bar in bars],
    }
