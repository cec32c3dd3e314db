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
    metadata MEDIUMTEXT NOT NULL,
    paths MEDIUMTEXT NOT NULL,
    PRIMARY KEY (observer, meter, resource_id),
    KEY ix_ha_state_meter (meter, resource_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=OUR_COLLATION;
CREATE TABLE ha_path (
    observer VARCHAR(255) NOT NULL,
    path VARCHAR(255) NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    PRIMARY KEY (observer, path)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=OUR_COLLATION;
CREATE TABLE ha_seen (
    observer VARCHAR(255) NOT NULL,
    epoch BIGINT NOT NULL,
    runs LONGBLOB NOT NULL,
    PRIMARY KEY (observer, epoch)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=OUR_COLLATION;
CREATE TABLE ha_seen_message (
    message_id VARCHAR(128) NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (message_id),
    KEY ix_ha_seen_message_seen_at (seen_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=OUR_COLLATION;
CREATE TABLE ha_writer (
    id INT NOT NULL,
    writer VARCHAR(64) NOT NULL,
    PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=OUR_COLLATION;
INSERT IGNORE INTO ha_writer (id, writer) VALUES (1, '');
