"""The command line: parse, call operations, print; nothing else."""

from edgekit.cli.commands import main as main
