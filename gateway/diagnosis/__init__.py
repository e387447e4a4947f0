"""The one place where findings are computed: what is wrong, what it means for images, what to type next.

`mini-pacs status` and `mini-pacs diagnose` show the same findings. Each module but the following is one
source of findings:

    finding.py    a finding, and the order of findings
    findings.py   the findings of everything that was read, ranked
    gather.py     read database and spool, each within a short time
    examine.py    the checks of `diagnose`, one after the other, each with a line while it runs

No source changes anything. All checks of a diagnosis run at the same time and have one deadline, so that it
ends within ten seconds, whatever is broken. What did not answer by then is a finding.
"""
