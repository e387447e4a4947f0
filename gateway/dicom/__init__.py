"""DICOM on the wire and in files; nothing else in the gateway but the sender uses pydicom or pynetdicom.

Bottom up:

    contexts, negotiation   presentation contexts, A-ASSOCIATE-RQ and -AC
    pdu, command            PDUs and command sets, as bytes
    wire, tls, p_data       a blocking socket, with or without TLS; a message cut into PDUs
    policy                  what the owner of an acceptor decides
    acceptor                takes connections; accepted_association and dispatch serve one association
    requestor, association  opening an association, and sending over it
    names                   the names of UIDs, for messages
    dataset                 data sets on disk: elements, headers, Part 10 files; pixel data is not decoded

Each association has one blocking thread, and nothing polls. The code that runs for each instance imports no
DICOM library. Nothing here uses configuration, log or database.
"""
