"""The report page: a template, a style and scripts, put together by `convergent.report_page`."""
