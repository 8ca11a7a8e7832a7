"""What was measured, how it compares, and the tables that tell of it."""
from benchlib.lines import BEST, LINES, MB, RECORDED, UNITS


class Results:
    """What was measured: values by line and program, with what was given up and why something is missing."""

    def __init__(self):
        self.values, self.over, self.missing, self.notes = {}, {}, {}, []

    def record(self, line, program, value):
        self.values.setdefault(line, {}).setdefault(program, []).append(value)

    def give_up(self, line, program, limit):
        self.over.setdefault(line, {})[program] = limit

    def lack(self, line, program, why):
        self.missing.setdefault(line, {})[program] = why

    def is_settled(self, line, program):
        """Whether there is no use in asking again."""
        return program in self.over.get(line, {}) or program in self.missing.get(line, {})

    def found(self, name, line, recorded):
        """What stands for each program in a line, and how it came about: measured, over or recorded."""
        found = {program: (line.pick(values), "measured") for program, values in self.values.get(name, {}).items()}
        found |= {program: (limit, "over") for program, limit in self.over.get(name, {}).items()}
        for program in recorded:
            if program not in found and program in RECORDED.get(name, {}):
                found[program] = (RECORDED[name][program], "recorded")
        return found

    @staticmethod
    def units(found, line):
        """What a line may be compared with."""
        return {program: value for program, (value, _) in found.items()
                if program != "asof" and line.unit in (BEST, program)}

    def judge(self, name, line, scale, recorded):
        """A line as JSON has it."""
        found = self.found(name, line, recorded)
        units = self.units(found, line)
        if not units and line.unit_of is not None:
            units = self.units(self.found(line.unit_of, line, recorded), line)
        best = min(units, key=units.get, default=None)
        own, how = found.get("asof", (None, None))
        bar = line.bar * getattr(scale, line.times) if line.times else line.bar
        ratio = own / units[best] if best and own is not None else None
        allowed = line.most
        if allowed is None and best and bar is not None:
            allowed = bar * units[best]
        reached = None
        if line.most is not None and own is not None:
            reached = own <= line.most
        elif bar is not None and ratio is not None:
            reached = ratio <= bar and how != "over"
        return {"title": line.title.format(**vars(scale)), "kind": line.kind, "bar": bar, "most": line.most,
                "allowed": allowed, "asof": own, "best": best, "ratio": ratio, "ok": reached, "found": found,
                "runs": self.values.get(name, {}), "missing": self.missing.get(name, {})}

    def judged(self, measures, scale, recorded):
        """All lines of the measures that were asked for, by group; recorded figures for these programs."""
        return {group: {name: self.judge(name, line, scale, recorded) for name, line in lines.items()
                        if set(line.measure.split()) & set(measures)}
                for group, lines in LINES.items()}


def shown(value, kind):
    if value is None:
        return "–"
    if kind == "bytes":
        return f"{value / MB:,.0f} MB"
    if kind == "count":
        return f"{value:,.0f}"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def cell(judged, program):
    if program not in judged["found"]:
        return "–"
    value, how = judged["found"][program]
    return {"over": "> ", "measured": "", "recorded": ""}[how] + shown(value, judged["kind"]) \
        + (" *" if how == "recorded" else "")


def verdict(judged):
    ratio = "–" if judged["ratio"] is None else f"{judged['ratio']:.2f}"
    if judged["most"] is not None:
        bar = shown(judged["most"], judged["kind"])
    else:
        bar = "–" if judged["bar"] is None else f"{judged['bar']:g}"
    return [ratio, bar, {None: "", True: "ok", False: "**over**"}[judged["ok"]]]


def render(judged, peers):
    """The tables as markdown."""
    text = []
    for group, unit in UNITS.items():
        lines = judged[group]
        if not lines:
            continue
        columns = peers if group == "peers" else [unit]
        text.append(row(["measure", "asof", *columns, f"asof / {unit}", "at most", ""]))
        text.append(row(["---"] * (len(columns) + 5)))
        text += [row([line["title"], cell(line, "asof"), *(cell(line, one) for one in columns), *verdict(line)])
                 for line in lines.values()]
        text.append("")
    if any(how == "recorded" for lines in judged.values() for line in lines.values()
           for _, how in line["found"].values()):
        text.append("\\* recorded on another machine of the same kind: the program is not here, or cannot do this.")
    return "\n".join(text)


def row(cells):
    return f"| {' | '.join(cells)} |"
