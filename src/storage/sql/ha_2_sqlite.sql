ALTER TABLE ha_state ADD COLUMN confirmed_at BIGINT;
ALTER TABLE ha_seen ADD COLUMN seen_at BIGINT NOT NULL DEFAULT 0;
CREATE TABLE ha_observer (
    observer VARCHAR(255) NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    began_observed_at BIGINT NOT NULL,
    began_received_at BIGINT NOT NULL,
    observed_at BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    rival_epoch BIGINT,
    rival_at BIGINT,
    PRIMARY KEY (observer)
) WITHOUT ROWID;
CREATE TABLE ha_round (
    observer VARCHAR(255) NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    instances BIGINT NOT NULL,
    completed_at BIGINT,
    PRIMARY KEY (observer, epoch, seq)
) WITHOUT ROWID;
CREATE TABLE ha_quarantine (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    quarantined_at BIGINT NOT NULL,
    digest CHAR(32) NOT NULL,
    reason VARCHAR(64) NOT NULL,
    detail TEXT NOT NULL,
    observer VARCHAR(255),
    meter VARCHAR(255) NOT NULL,
    resource_id VARCHAR(255) NOT NULL,
    message_id VARCHAR(128) NOT NULL,
    message TEXT NOT NULL
);
CREATE UNIQUE INDEX ix_ha_quarantine_digest ON ha_quarantine (digest);
