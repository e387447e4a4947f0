"""Data sets with every known kind of error, sent to the edge, to Orthanc and to DCMTK's storescp.

`PYTHONPATH=tests python -m proof.mutants --count 20000 --seed 1` reports which peer accepts what, whether
the edge delivered byte for byte all that it acknowledged, and on which kinds the edge and both peers
disagree.

    dataset     a small valid data set, element by element, in four transfer syntaxes
    kinds       the errors
    targets     the edge with a sink as its PACS, Orthanc, storescp; how to send to each
    run         sends every data set to every target, then compares
    report      the tables
"""
