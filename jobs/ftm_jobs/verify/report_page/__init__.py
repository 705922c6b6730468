"""Shows a verification to people: report.html."""
