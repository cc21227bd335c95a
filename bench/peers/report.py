#!/usr/bin/env python3
"""Makes a table, a JSON file and a picture of the rows that one run of `make bench-peers` measured.

    report.py ROWS.jsonl OUTPUT COMMAND

Writes OUTPUT.md, OUTPUT.json, OUTPUT.svg and OUTPUT.png.
"""

import datetime
import json
import os
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

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
    vectors = "AVX-512" if "avx512_vpopcntdq" in lines.get("flags", "") else ""
    family = lines.get("cpu family", "?")
    return f"{lines.get('model name', 'an unknown processor')} (family {family}), {os.cpu_count()} cores, {vectors}"


def table(rows):
    used = [c for c in COLUMNS if any(row.get(c[0]) is not None for row in rows)]
    lines = ["| " + " | ".join(title for _, title, _ in used) + " |"]
    lines.append("|" + "|".join("---" if form is str else "---:" for _, _, form in used) + "|")
    for row in rows:
        cells = ["" if row.get(name) is None else form(row[name]) for name, _, form in used]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picture(rows, output):
    sizes = sorted({row["size"] for row in rows if row["threads"] == 1 and row["batch"] == 1})
    figure, axes = plt.subplots(1, len(sizes), figsize=(7 * len(sizes), 6), squeeze=False)
    for axis, size in zip(axes[0], sizes):
        chosen = [r for r in rows if (r["size"], r["threads"], r["batch"]) == (size, 1, 1) and r.get("fnir") is not None]
        for name in dict.fromkeys(row["engine"] for row in chosen):
            points = sorted((row["p50_us"], 1 - row["fnir"]) for row in chosen if row["engine"] == name)
            ours = name.startswith("Likeness")
            axis.plot(*zip(*points), "o-" if ours else "s--", label=name, linewidth=2.5 if ours else 1, markersize=8 if ours else 5)
        axis.set(xscale="log", title=f"{size:,} people, one thread, one query at a time", xlabel="p50, microseconds a query")
        axis.set_ylabel("found at FPIR 1 %")
        axis.grid(True, which="both", alpha=0.3)
        axis.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    for ending in ("svg", "png"):
        figure.savefig(f"{output}.{ending}", dpi=110, metadata={"Date": None} if ending == "svg" else None)


def main(source, output, command):
    with open(source) as lines:
        rows = [json.loads(line) for line in lines]
    date = datetime.date.today().isoformat()
    head = f"Written by `{command}` on {date}, on {machine()}. What the rows mean is in [the README](../README.md)."
    text = f"# Search beside what people use today\n\n{head}\n"
    notes = [row for row in rows if "engine" not in row]
    rows = [row for row in rows if "engine" in row]
    for note in notes:
        text += f"\n{note['note']}\n"
    for size in sorted({row["size"] for row in rows}):
        chosen = [row for row in rows if row["size"] == size]
        text += f"\n## {size:,} people ({chosen[0]['gallery']})\n\n{table(chosen)}\n"
    text += f"\n![latency against accuracy]({os.path.basename(output)}.svg)\n"
    with open(f"{output}.md", "w") as out:
        out.write(text)
    with open(f"{output}.json", "w") as out:
        json.dump({"command": command, "date": date, "machine": machine(), "notes": notes, "rows": rows}, out, indent=1)
        out.write("\n")
    picture(rows, output)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
