"""report.html: a verification on one page, for whoever decides whether to serve it. No script, nothing loaded.

Pure: what verification.json holds comes in, a document comes out. All text of models and users is escaped.
"""


def page(content):  # placeholder
    return ""
