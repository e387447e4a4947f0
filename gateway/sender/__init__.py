"""What the sender simulator does: instances from files or made up, sent to a Storage SCP and reported.

collect (files and folders → instances) or generate (a study with visible content) → rewrite (other UIDs,
other patient) → send (associations, one answer per instance)

Everything that is sent is a Part 10 file, those that were generated or rewritten in a folder of the
caller's choice. A file that needs no rewriting goes to the wire byte for byte as it is on disk. Nothing
here keeps state: if the process dies, whoever runs it again sends again, and repeats are harmless (G4).
"""
