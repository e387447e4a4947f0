"""The pictures of README.md, made from the running program: `make pictures`.

    status   docs/pictures/status.svg: two commands in a lab, while its PACS is away
    viewer   docs/pictures/viewer.png: OHIF in the lab in containers, with an original and its result

All data in them are generated.
"""
