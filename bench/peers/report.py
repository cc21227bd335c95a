#!/usr/bin/env python3
"""Makes a table, a JSON file and a picture of the rows that one run of `make bench-peers` measured.

    report.py [--add] ROWS.jsonl OUTPUT COMMAND

Writes OUTPUT.md, OUTPUT.json and OUTPUT.svg. With --add it keeps the runs of OUTPUT.json of which
something has not been measured again. Ratios are of rows of one run only.
"""

import datetime
import json
import os
import sys

import matplotlib

matplotlib.use("svg")
# Text as text, and the same bytes for the same rows.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "likeness"})
import matplotlib.pyplot as plt
from matplotlib import ticker

COLUMNS = [
    ("engine", "engine", str),
    ("kind", "kind", str),
    ("threads", "threads", str),
    ("batch", "batch", str),
    ("p50_us", "p50, us a query", "{:,.0f}".format),
    ("p99_us", "p99, us a query", "{:,.0f}".format),
    ("qps", "queries/s", "{:,.0f}".format),
    ("recall_at_1", "recall@1", "{:.3f}".format),
    ("rank_1", "rank-1", "{:.3f}".format),
    ("fnir", "FNIR at FPIR 1 %", "{:.3f}".format),
    ("bytes_per_face", "bytes a face", "{:,.0f}".format),
    ("build_s", "built in s", "{:,.1f}".format),
]


def machine():
    with open("/proc/cpuinfo") as info:
        pairs = (line.split(":", 1) for line in info if ":" in line)
        lines = {name.strip(): value.strip() for name, value in pairs}
    vectors = ", AVX-512" if "avx512_vpopcntdq" in lines.get("flags", "") else ""
    family = lines.get("cpu family", "?")
    return f"{lines.get('model name', 'an unknown processor')} (family {family}), {os.cpu_count()} cores{vectors}"


def table(rows):
    used = [c for c in COLUMNS if any(row.get(c[0]) is not None for row in rows)]
    lines = ["| " + " | ".join(title for _, title, _ in used) + " |"]
    lines.append("|" + "|".join("---" if form is str else "---:" for _, _, form in used) + "|")
    for row in rows:
        cells = ["" if row.get(name) is None else form(row[name]) for name, _, form in used]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def curve(row):
    """What is drawn as one line: our graph is another than our stages, and so are those that were asked as much as it."""
    for kind in ("graph", "cascade, beside the graph"):
        if row["kind"].startswith(kind):
            return f"{row['engine']}, {kind}"
    return row["engine"]


# How right an answer is, in two ways.
RIGHT = {
    "found at FPIR 1 %": lambda row: None if row.get("fnir") is None else 1 - row["fnir"],
    "recall@1: answers like the full scan's": lambda row: row.get("recall_at_1"),
}


def curves(axis, rows, right):
    rows = [row for row in rows if right(row) is not None]
    for name in dict.fromkeys(map(curve, rows)):
        points = sorted((row["p50_us"], right(row)) for row in rows if curve(row) == name)
        ours = name.startswith("Likeness")
        axis.plot(*zip(*points), "o-" if ours else "s--", label=name, linewidth=2.5 if ours else 1, markersize=8 if ours else 5)


def picture(rows, output):
    sizes = sorted({row["size"] for row in rows if row["threads"] == 1 and row["batch"] == 1})
    figure, axes = plt.subplots(2, len(sizes), figsize=(7 * len(sizes), 11), squeeze=False)
    for line, (what, right) in zip(axes, RIGHT.items()):
        for axis, size in zip(line, sizes):
            curves(axis, [r for r in rows if (r["size"], r["threads"], r["batch"]) == (size, 1, 1)], right)
            axis.set(xscale="log", title=f"{size:,} people, one thread, one query at a time", xlabel="p50, microseconds a query")
            axis.set_ylabel(what)
            axis.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
            axis.xaxis.set_minor_formatter(ticker.FuncFormatter(lambda x, _: f"{x:,.0f}" if f"{x:e}"[0] in "25" else ""))
            axis.grid(True, which="both", alpha=0.3)
            axis.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(f"{output}.svg", metadata={"Date": None})


# A graph finds as many people as the stages if its rank-1 is no lower by more than this.
EQUAL = 0.001


def ratios(rows, notes):
    """What one thing takes for each that another takes in the same run, less being better for us. Of several runs that
    measured the same the last one's."""
    alone = {}
    for row in rows:
        if row["threads"] == 1:
            alone[row["run"], row["size"], row["engine"], row["kind"], row["batch"]] = row
    found = {}

    def add(what, size, one, other):
        if one and other:
            found[f"{what}, among {size:,}"] = one / other

    for run, size in dict.fromkeys(key[:2] for key in alone):

        def p50(engine, kind, batch=1):
            return alone.get((run, size, engine, kind, batch), {}).get("p50_us")

        stages, full = p50("Likeness", "cascade"), p50("Likeness", "exact scan")
        add("cascade / FAISS IndexBinaryFlat", size, stages, p50("FAISS IndexBinaryFlat", "exact"))
        add("cascade / FAISS IndexRaBitQFastScan", size, stages, p50("FAISS IndexRaBitQFastScan", "exact"))
        add("exact scan / FAISS IndexBinaryFlat", size, full, p50("FAISS IndexBinaryFlat", "exact"))
        add("cascade, 32 together / alone", size, p50("Likeness", "cascade", 32), stages)
        # A small gallery is read from a cache, and says nothing of memory.
        for note in (n for n in notes if (n["run"], n.get("size")) == (run, size) and size >= 1_000_000):
            add("cascade / reading them where they lie", size, note.get("stages_to_reading"), 1)
            add("cascade / the first stage by itself, in turn", size, note.get("stages_to_first_stage"), 1)
            add("cascade / reading all first bits again and again", size, note.get("stages_to_reading_again"), 1)
            add("the first stage by itself / the same", size, note.get("first_stage_to_reading_again"), 1)
        beside = alone.get((run, size, "Likeness", "cascade, beside the graph", 1))
        graphs = [row for key, row in alone.items() if key[:3] == (run, size, "Likeness") and "graph ef" in key[3]]
        if beside:
            equal = [row["p50_us"] for row in graphs if row["rank_1"] >= beside["rank_1"] - EQUAL]
            add("graph that finds as many / cascade", size, min(equal, default=None), beside["p50_us"])
    return [{"what": what, "value": value} for what, value in sorted(found.items())]


def latest(rows):
    """Of what several runs measured the last one's: rows are in the order of their runs."""
    key = lambda row: tuple(row.get(name) for name in ("engine", "kind", "gallery", "size", "threads", "batch"))
    return list({key(row): row for row in rows}.values())


def kept(output, run):
    """Rows and notes of other runs."""
    try:
        with open(f"{output}.json") as before:
            before = json.load(before)
    except FileNotFoundError:
        return [], []
    # Results from before there were several runs.
    named = f"{before['date']}, {before['machine']}: {before['command']}" if "command" in before else None
    rows = [{"run": named, **row} for row in before["rows"]]
    notes = [{"run": named, **note} for note in before["notes"]]
    return [[one for one in some if one["run"] != run] for some in (rows, notes)]


def main(source, output, command, add):
    with open(source) as lines:
        rows = [json.loads(line) for line in lines]
    date = datetime.date.today().isoformat()
    run = f"{date}, {machine()}: {command}"
    rows = [{"run": run, **row} for row in rows]
    old_rows, old_notes = kept(output, run) if add else ([], [])
    notes = old_notes + [row for row in rows if "engine" not in row]
    rows = old_rows + [row for row in rows if "engine" in row]
    # A run of which nothing is the latest says nothing any more. Others stay whole, for ratios are of one.
    runs = {row["run"] for row in latest(rows)}
    rows, notes = [[one for one in some if one["run"] in runs] for some in (rows, notes)]
    text = "# Search beside what people use today\n\nWhat the rows mean is in [the README](../README.md). The runs:\n"
    for one in dict.fromkeys(row["run"] for row in rows):
        text += "\n- " + one.replace(": ", ", `", 1) + "`"
    text += "\n"
    for note in notes:
        text += f"\n{note['note']}\n"
    compared = ratios(rows, notes)
    if compared:
        text += "\n## Ratios, each of one run\n\n| p50, one thread | |\n|---|---:|\n"
        text += "".join(f"| {one['what']} | {one['value']:.2f} |\n" for one in compared)
    for size in sorted({row["size"] for row in rows}):
        chosen = [row for row in latest(rows) if row["size"] == size]
        text += f"\n## {size:,} people ({chosen[0]['gallery']})\n\n{table(chosen)}\n"
    text += f"\n![latency against accuracy]({os.path.basename(output)}.svg)\n"
    with open(f"{output}.md", "w") as out:
        out.write(text)
    with open(f"{output}.json", "w") as out:
        results = {"load": os.getloadavg()[0], "ratios": compared, "notes": notes, "rows": rows}
        json.dump(results, out, indent=1)
        out.write("\n")
    picture(latest(rows), output)


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--add"]
    if len(words) != 3:
        sys.exit(__doc__)
    main(*words, add="--add" in sys.argv)
