"""report.html: what an evaluation found, as one page that needs nothing else; other pages beside it."""
