-- So that a list of conflicts does not read every instance.
CREATE INDEX instances_conflicts ON instances (received_at, id) WHERE conflict;
