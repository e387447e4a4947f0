"""Data sets made wrong in every way that is known, sent to the edge, to Orthanc and to DCMTK's storescp.

`PYTHONPATH=tests python -m proof.mutants --count 20000 --seed 1`: who takes what, whether all that the edge
acknowledged is delivered byte for byte, and each kind of data set on which the edge and both peers disagree.

    dataset     a small valid data set, element by element, in four transfer syntaxes
    kinds       what is made wrong with it
    targets     the edge with a sink as its PACS, Orthanc, storescp; who they are and how they are asked
    run         sends every data set to every target, then compares
    report      the tables
"""
