"""`minifcn check-data`: check a dataset before training."""

import argparse
from dataclasses import replace
from itertools import groupby

from minifcn.cli import for_command_line
from minifcn.cli.shared import BANDS, DATA, bands
from minifcn.data import DatasetReport, Finding, check_dataset, dataset_splits, open_dataset
from minifcn.data.check import KINDS, TITLES
from minifcn.data.dataset import read_like
from minifcn.data.errors import class_lines, counted
from minifcn.printing import show

_SHOWN = 10  # findings of a kind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Reads every image and mask. Exit status: 0 without findings, 1 with findings, 2 if the dataset "
        "could not be opened."
    )
    parser.add_argument("data", metavar="DATA", help=f"{DATA}, or voc+sbd:PATH")
    part = "only this part (default: all that exist)"
    parser.add_argument("--split", choices=("train", "validation", "test"), help=part)
    parser.add_argument("--bands", type=bands, metavar="N,N,N", help=BANDS)


def run(arguments: argparse.Namespace) -> int:
    """Check a dataset and print the report; return 1 if there are findings."""
    names = [arguments.split] if arguments.split else dataset_splits(arguments.data)
    splits = {name: open_dataset(arguments.data, name, strict=False) for name in names}
    read_like(splits.values(), 8, arguments.bands)
    report = check_dataset(splits, progress="checking")
    findings = [one._replace(message=for_command_line(one.message, {})) for one in report.findings]
    if not arguments.split:
        needed = "there is no such part, and training needs one"
        lacking = [Finding("void", part, "", needed) for part in ("train", "validation") if part not in names]
        findings = sorted((*lacking, *findings), key=lambda finding: KINDS.index(finding.kind))
    report = replace(report, findings=tuple(findings))
    show(*_lines(report))
    return 1 if report.findings else 0


def _lines(report: DatasetReport) -> list[str]:
    lines = []
    for name, split in report.splits.items():
        common = split.sizes.most_common(3)
        sizes = ", ".join(f"{count} of {width} x {height}" for (height, width), count in common)
        more = f" and {counted(len(split.sizes) - 3, 'other size')}" if len(split.sizes) > 3 else ""
        chosen = f" ({split.chosen})" if split.chosen else ""
        lines.append(f"{name}: {counted(split.items, 'image')}{chosen}{': ' if sizes else ''}{sizes}{more}")
    if report.bit_depth != 8:
        most = 2**report.bit_depth - 1
        lines.append(f"files of 16 bits have {report.bit_depth} bits: 0 to {most} becomes 0 to 255")
    lines += ["", *report.table().split("\n"), ""]
    for kind, group in groupby(report.findings, key=lambda finding: finding.kind):
        findings = list(group)
        lines.append(f"{TITLES[kind]}: {len(findings)}")
        lines += [f"  {finding}" for finding in findings[:_SHOWN]]
        if len(findings) > _SHOWN:
            lines.append(f"  and {len(findings) - _SHOWN} more")
        if kind == "labels" and report.unknown:
            lines += f"  {class_lines(report.unknown)}".split("\n")
    lines.append(counted(len(report.findings), "finding") if report.findings else "no findings")
    return lines
