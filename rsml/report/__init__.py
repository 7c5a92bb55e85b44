"""One page a run, or several beside each other: report.html, complete in itself."""
