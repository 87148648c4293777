"""report.html: what an evaluation found, as one page that needs nothing else."""

from steadypix.eval.report.render import write_report

__all__ = ["write_report"]
