CREATE TABLE ha_state (
    observer VARCHAR(255) NOT NULL,
    meter VARCHAR(255) NOT NULL,
    resource_id VARCHAR(255) NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    volume DOUBLE NOT NULL,
    quality VARCHAR(32) NOT NULL,
    observed_at BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    metadata TEXT NOT NULL,
    paths TEXT NOT NULL,
    PRIMARY KEY (observer, meter, resource_id)
) WITHOUT ROWID;
CREATE INDEX ix_ha_state_meter ON ha_state (meter, resource_id);
CREATE TABLE ha_path (
    observer VARCHAR(255) NOT NULL,
    path VARCHAR(255) NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    PRIMARY KEY (observer, path)
) WITHOUT ROWID;
CREATE TABLE ha_seen (
    observer VARCHAR(255) NOT NULL,
    epoch BIGINT NOT NULL,
    runs BLOB NOT NULL,
    PRIMARY KEY (observer, epoch)
) WITHOUT ROWID;
CREATE TABLE ha_seen_message (
    message_id VARCHAR(128) NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (message_id)
) WITHOUT ROWID;
CREATE INDEX ix_ha_seen_message_seen_at ON ha_seen_message (seen_at);
