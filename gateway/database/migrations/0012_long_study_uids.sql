-- Accept Study Instance UIDs that some modalities write and PACSs accept: up to 128 characters, with empty components
-- or a dot at the end. They stay safe as the name of a folder: digits and dots, the first a digit. A SOP Instance UID
-- may have the same form, but at most 64 characters.
ALTER TABLE instances
    DROP CONSTRAINT instances_sop_instance_uid_is_a_uid,
    DROP CONSTRAINT instances_study_instance_uid_is_a_uid,
    ADD CONSTRAINT instances_sop_instance_uid_is_a_uid
        CHECK (length(sop_instance_uid) <= 64 AND sop_instance_uid ~ '^[0-9][0-9.]*$') NOT VALID,
    ADD CONSTRAINT instances_study_instance_uid_is_a_uid
        CHECK (length(study_instance_uid) <= 128 AND study_instance_uid ~ '^[0-9][0-9.]*$') NOT VALID;
