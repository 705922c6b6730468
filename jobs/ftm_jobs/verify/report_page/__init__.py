"""The page that shows a verification to people: report.html."""
