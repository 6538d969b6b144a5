"""The reports: report.json (the log), report.md, report.html and junit.xml."""
