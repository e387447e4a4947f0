-- A delivery to an application that gets whole series or studies waits for the rest of them. The new value of the enum cannot be
-- used before this transaction is committed: 0022_units uses it.
ALTER TYPE delivery_state ADD VALUE 'collecting' BEFORE 'pending';
