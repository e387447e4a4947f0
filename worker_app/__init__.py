"""A stand-in for an AI application: takes an instance, waits, returns a result that references it.

settings → scp → (bounded queue) → returning: source → picture → result → C-STORE to the gateway

It imports nothing else of ours: it stands for software that others write, and knows of the gateway only
what DICOM tells. C-STORE is answered *before* anything is computed, as an AI that needs minutes has to.

What is guaranteed: the result of a source instance by this AE title is the same UIDs and the same bytes,
however often and wherever it is derived, so that a repeat is a harmless duplicate at the gateway (G4).

What is not: durability. Instances that wait are held by open, already unlinked files. If the process dies
they are gone, and so are their results; the gateway's deadline for the result gives the instance
to another worker. At most a half-received temporary file is left behind.
"""
