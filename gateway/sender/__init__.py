"""The sender simulator: send instances to a Storage SCP, and report the outcome of each.

    collect    files and folders → instances
    generate   a request → a study with images of simple anatomies
    rewrite    instances → the same instances with other UIDs or another patient
    send       instances → one outcome for each

Every instance that is sent is a Part 10 file. Generated and rewritten files are written to a folder that the
caller chooses; other files are sent unchanged, byte for byte. No state is stored: if the process dies, run it
again; instances that are sent twice are harmless (G4).
"""
