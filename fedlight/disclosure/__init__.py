"""What would leave a site, found out before anything runs: the page for the data protection officer."""

from fedlight.disclosure.officer import officers_page

__all__ = ["officers_page"]
