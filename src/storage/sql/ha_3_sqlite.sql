ALTER TABLE ha_seen ADD COLUMN retired_seq BIGINT NOT NULL DEFAULT 0;
CREATE TABLE ha_host_key (
    observer VARCHAR(255) NOT NULL,
    number BIGINT NOT NULL,
    first_used_at BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL,
    PRIMARY KEY (observer, number)
) WITHOUT ROWID;
