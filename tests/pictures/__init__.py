"""The pictures of README.md and the documentation, made from the running program: `make pictures`.

    status   docs/pictures/status.svg: two commands in a lab, while its PACS is away
    viewer   docs/pictures/viewer.png: OHIF in the lab in containers, with an original and its result
    console  docs/pictures/console/: nine pictures of the console, with the data of a day
    gallery  build/console/: every page of the console at each width, in both themes; to look at a design

All data in them are generated.
"""
