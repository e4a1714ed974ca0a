-- The log between the rooms: topics, cut into partitions, each a row of records counted from 0.

-- Whoever appends locks the partition's row until its commit, so records appear in the order of their
-- offsets, and a reader that saw one has seen all before it.
CREATE TABLE log_partition (
    topic text NOT NULL CHECK (topic <> ''),
    partition int NOT NULL CHECK (partition >= 0),
    -- The offset that the next record will get.
    next_offset bigint NOT NULL DEFAULT 0 CHECK (next_offset >= 0),
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 10); -- updated with every append: room on the page keeps the updates there

CREATE TABLE log_record (
    topic text NOT NULL,
    partition int NOT NULL,
    record_offset bigint NOT NULL CHECK (record_offset >= 0),
    id text NOT NULL,
    provider text NOT NULL,
    app_id text NOT NULL CHECK (length(app_id) BETWEEN 1 AND 32),
    -- Records of one key stand in one partition.
    key text NOT NULL,
    source text NOT NULL,
    received_at timestamptz NOT NULL,
    -- Why the message was set aside; NULL where it was not.
    reason text,
    -- The signed bytes as they came.
    body bytea NOT NULL,
    appended_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, record_offset)
);

-- Kept as it is: compressing the bodies that leave their page halved the appends of such bodies.
ALTER TABLE log_record ALTER COLUMN body SET STORAGE EXTERNAL;
