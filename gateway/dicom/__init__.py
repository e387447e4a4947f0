"""DICOM on the wire and in files: the only importer of pydicom and pynetdicom in the gateway.

Bottom up:

    contexts, negotiation   what an association agrees on
    pdu, command            frames and command sets, as bytes
    stream, fragments       a blocking socket; a message cut into PDUs
    policy, scp, scu        the two roles of an association, and what decides in the acceptor's
    part10                  File Meta Information
    window, elements        a data set on disk, walked over without decoding it
    header                  the UIDs and references that the gateway needs to know

One blocking thread per association and no polling; the hot path is ours (`measured.md` says why), and
imports no DICOM library at all. Nothing here knows configuration, log or database.
"""
