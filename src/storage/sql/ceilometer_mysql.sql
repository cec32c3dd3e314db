CREATE TABLE `resource` (
  `internal_id` int(11) NOT NULL AUTO_INCREMENT,
  `user_id` varchar(255) DEFAULT NULL,
  `project_id` varchar(255) DEFAULT NULL,
  `source_id` varchar(255) DEFAULT NULL,
  `resource_id` varchar(255) NOT NULL,
  `resource_metadata` text DEFAULT NULL,
  `metadata_hash` varchar(32) DEFAULT NULL,
  PRIMARY KEY (`internal_id`),
  KEY `ix_resource_metadata_hash` (`metadata_hash`),
  KEY `ix_resource_resource_id` (`resource_id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;
CREATE TABLE `meter` (
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `name` varchar(255) NOT NULL,
  `type` varchar(255) DEFAULT NULL,
  `unit` varchar(255) DEFAULT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `def_unique` (`name`,`type`,`unit`),
  KEY `ix_meter_name` (`name`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;
CREATE TABLE `sample` (
  `id` bigint(20) NOT NULL AUTO_INCREMENT,
  `meter_id` int(11) DEFAULT NULL,
  `resource_id` int(11) DEFAULT NULL,
  `volume` double DEFAULT NULL,
  `timestamp` decimal(20,6) DEFAULT NULL,
  `recorded_at` decimal(20,6) DEFAULT NULL,
  `message_signature` varchar(64) DEFAULT NULL,
  `message_id` varchar(128) DEFAULT NULL,
  PRIMARY KEY (`id`),
  KEY `ix_sample_timestamp` (`timestamp`),
  KEY `ix_sample_resource_id` (`resource_id`),
  KEY `ix_sample_meter_id_resource_id` (`meter_id`,`resource_id`),
  KEY `ix_sample_meter_id` (`meter_id`),
  CONSTRAINT `sample_ibfk_1` FOREIGN KEY (`meter_id`) REFERENCES `meter` (`id`),
  CONSTRAINT `sample_ibfk_2` FOREIGN KEY (`resource_id`) REFERENCES `resource` (`internal_id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;
CREATE TABLE `metadata_text` (
  `id` int(11) NOT NULL,
  `meta_key` varchar(255) NOT NULL,
  `value` text DEFAULT NULL,
  PRIMARY KEY (`id`,`meta_key`),
  KEY `ix_meta_text_key` (`meta_key`),
  CONSTRAINT `metadata_text_ibfk_1` FOREIGN KEY (`id`) REFERENCES `resource` (`internal_id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;
CREATE TABLE `metadata_int` (
  `id` int(11) NOT NULL,
  `meta_key` varchar(255) NOT NULL,
  `value` bigint(20) DEFAULT NULL,
  PRIMARY KEY (`id`,`meta_key`),
  KEY `ix_meta_int_key` (`meta_key`),
  CONSTRAINT `metadata_int_ibfk_1` FOREIGN KEY (`id`) REFERENCES `resource` (`internal_id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;
CREATE TABLE `metadata_float` (
  `id` int(11) NOT NULL,
  `meta_key` varchar(255) NOT NULL,
  `value` double DEFAULT NULL,
  PRIMARY KEY (`id`,`meta_key`),
  KEY `ix_meta_float_key` (`meta_key`),
  CONSTRAINT `metadata_float_ibfk_1` FOREIGN KEY (`id`) REFERENCES `resource` (`internal_id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;
CREATE TABLE `metadata_bool` (
  `id` int(11) NOT NULL,
  `meta_key` varchar(255) NOT NULL,
  `value` tinyint(1) DEFAULT NULL,
  PRIMARY KEY (`id`,`meta_key`),
  KEY `ix_meta_bool_key` (`meta_key`),
  CONSTRAINT `metadata_bool_ibfk_1` FOREIGN KEY (`id`) REFERENCES `resource` (`internal_id`),
  CONSTRAINT `CONSTRAINT_1` CHECK (`value` in (0,1))
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;
CREATE TABLE `event_type` (
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `desc` varchar(255) DEFAULT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `desc` (`desc`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;
CREATE TABLE `event` (
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `message_id` varchar(50) DEFAULT NULL,
  `generated` decimal(20,6) DEFAULT NULL,
  `raw` text DEFAULT NULL,
  `event_type_id` int(11) DEFAULT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `message_id` (`message_id`),
  KEY `ix_event_type_id` (`event_type_id`),
  KEY `ix_event_message_id` (`message_id`),
  KEY `ix_event_generated` (`generated`),
  CONSTRAINT `event_ibfk_1` FOREIGN KEY (`event_type_id`) REFERENCES `event_type` (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;
CREATE TABLE `trait_text` (
  `event_id` int(11) NOT NULL,
  `key` varchar(255) NOT NULL,
  `value` varchar(255) DEFAULT NULL,
  PRIMARY KEY (`event_id`,`key`),
  KEY `ix_trait_text_event_id_key` (`event_id`,`key`),
  CONSTRAINT `trait_text_ibfk_1` FOREIGN KEY (`event_id`) REFERENCES `event` (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;
CREATE TABLE `trait_int` (
  `event_id` int(11) NOT NULL,
  `key` varchar(255) NOT NULL,
  `value` int(11) DEFAULT NULL,
  PRIMARY KEY (`event_id`,`key`),
  KEY `ix_trait_int_event_id_key` (`event_id`,`key`),
  CONSTRAINT `trait_int_ibfk_1` FOREIGN KEY (`event_id`) REFERENCES `event` (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;
CREATE TABLE `trait_float` (
  `event_id` int(11) NOT NULL,
  `key` varchar(255) NOT NULL,
  `value` double DEFAULT NULL,
  PRIMARY KEY (`event_id`,`key`),
  KEY `ix_trait_float_event_id_key` (`event_id`,`key`),
  CONSTRAINT `trait_float_ibfk_1` FOREIGN KEY (`event_id`) REFERENCES `event` (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;
CREATE TABLE `trait_datetime` (
  `event_id` int(11) NOT NULL,
  `key` varchar(255) NOT NULL,
  `value` decimal(20,6) DEFAULT NULL,
  PRIMARY KEY (`event_id`,`key`),
  KEY `ix_trait_datetime_event_id_key` (`event_id`,`key`),
  CONSTRAINT `trait_datetime_ibfk_1` FOREIGN KEY (`event_id`) REFERENCES `event` (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;
CREATE TABLE `migrate_version` (
  `repository_id` varchar(250) NOT NULL,
  `repository_path` text DEFAULT NULL,
  `version` int(11) DEFAULT NULL,
  PRIMARY KEY (`repository_id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_general_ci;
