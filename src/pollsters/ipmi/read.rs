//! Pure. Reads what ipmitool prints.

use std::collections::BTreeSet;

use crate::model::{Meter, Volume, meters};

/// The most sensors of one chassis. Big ones have three hundred; the rest of the list is left out.
const SENSORS_MAX: usize = 1024;

/// The longest name of a sensor. The BMC's records have room for 16 characters, ipmitool may add some;
/// a sensor with a longer one is left out.
const SENSOR_NAME_CHARS_MAX: usize = 64;

/// A sensor that measures something.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sensor {
    /// Its name as the BMC has it.
    pub(super) name: String,
    /// What tells it from others: its name and number, as Ceilometer makes them a part of the resource.
    pub(super) id: String,
    /// What it measures.
    pub(super) meter: Meter,
    /// How much.
    pub(super) volume: Volume,
}

/// Reads `ipmitool chassis power status`.
pub(super) fn power(text: &str) -> Option<bool> {
    let says = |words: &str| text.lines().any(|line| line.trim() == words);
    match (says("Chassis Power is on"), says("Chassis Power is off")) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

/// Reads `ipmitool sdr elist full`, of which each line is `name | number | status | entity | reading`.
/// Sensors that are off, or measure in a unit that no meter has, are left out; None if not one line is
/// a sensor's.
pub(super) fn sensors(text: &str) -> Option<Vec<Sensor>> {
    let mut is_list = text.trim().is_empty();
    let mut seen = BTreeSet::new();
    let mut sensors = Vec::new();
    for line in text.lines() {
        // From the right, because a name may hold anything.
        let mut fields = line.rsplitn(5, '|').map(str::trim);
        let (Some(reading), Some(_entity), Some(_status), Some(number), Some(name)) = (
            fields.next(),
            fields.next(),
            fields.next(),
            fields.next(),
            fields.next(),
        ) else {
            continue;
        };
        let Some(number) = number.strip_suffix('h').filter(|hex| is_number(hex)) else {
            continue;
        };
        is_list = true;
        let sensor = sensor(name, number, reading);
        sensors.extend(sensor.filter(|sensor| seen.insert(sensor.id.clone())));
    }
    sensors.truncate(SENSORS_MAX);
    is_list.then_some(sensors)
}

fn is_number(hex: &str) -> bool {
    (1..=4).contains(&hex.len()) && hex.chars().all(|c| c.is_ascii_hexdigit())
}

fn sensor(name: &str, number: &str, reading: &str) -> Option<Sensor> {
    let is_plain = !name.is_empty()
        && name.chars().count() <= SENSOR_NAME_CHARS_MAX
        && !name.chars().any(char::is_control);
    let (value, unit) = reading.split_once(' ').filter(|_| is_plain)?;
    let number = u32::from_str_radix(number, 16).ok()?;
    Some(Sensor {
        name: name.to_owned(),
        id: format!("{name} (0x{number:x})")
            .to_lowercase()
            .replace(' ', "_"),
        meter: meter(unit)?,
        volume: Volume::measured(value.parse().ok()?)?,
    })
}

/// The meter of a unit. Fans in per cent and temperatures in Fahrenheit have none: one meter has one
/// unit.
fn meter(unit: &str) -> Option<Meter> {
    match unit {
        "degrees C" => Some(meters::IPMI_TEMPERATURE),
        "Volts" => Some(meters::IPMI_VOLTAGE),
        "Amps" => Some(meters::IPMI_CURRENT),
        "RPM" => Some(meters::IPMI_FAN),
        "Watts" => Some(meters::IPMI_POWER),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn power_is_on_off_or_not_said() {
        for (text, expected) in [
            ("Chassis Power is on\n", Some(true)),
            ("Chassis Power is off\n", Some(false)),
            ("", None),
            ("Chassis Power is unknown\n", None),
            ("Chassis Power is on\nChassis Power is off\n", None),
        ] {
            assert_eq!(power(text), expected, "{text}");
        }
    }

    /// Printed by ipmitool 1.8.19 for a simulated BMC (the first six), and lines of the same shape
    /// with what real boards have: long names, states without a value, other units.
    const LIST: &str = "\
CPU Temp         | 01h | ok  |  3.1 | 41 degrees C
12V              | 02h | ok  |  7.1 | 12 Volts
FAN 1            | 03h | ok  | 29.1 | 5500 RPM
PSU1 Current     | 04h | ok  | 19.1 | 2.30 Amps
Pwr Consumption  | 05h | ok  | 19.1 | 240 Watts
CPU2 Temp        | 06h | ns  |  3.2 | Disabled
Inlet|Temp       | A7h | cr  | 64.1 | -3.500 degrees C
FAN 1            | 41h | nc  | 29.1 | 0 RPM
Fan Duty         | 42h | ok  | 29.2 | 35.28 percent
VBAT             | 33h | ns  |  7.1 | No Reading
CPU1 Status      | 5Ch | ok  |  3.1 | Presence detected
Case             | 5Dh | ok  | 23.1 | 88 degrees F
";

    #[test]
    fn sensors_with_a_value_have_a_meter_and_the_ids_that_ceilometer_gives_them() {
        let sensors = sensors(LIST).unwrap();
        let short: Vec<(&str, &str, &str, f64)> = sensors
            .iter()
            .map(|sensor| {
                let (name, unit) = (sensor.meter.name.as_ref(), sensor.meter.unit.as_ref());
                (sensor.id.as_str(), name, unit, sensor.volume.as_f64())
            })
            .collect();
        assert_eq!(
            short,
            [
                ("cpu_temp_(0x1)", "hardware.ipmi.temperature", "C", 41.0),
                ("12v_(0x2)", "hardware.ipmi.voltage", "V", 12.0),
                ("fan_1_(0x3)", "hardware.ipmi.fan", "RPM", 5500.0),
                ("psu1_current_(0x4)", "hardware.ipmi.current", "A", 2.3),
                ("pwr_consumption_(0x5)", "hardware.ipmi.power", "W", 240.0),
                ("inlet|temp_(0xa7)", "hardware.ipmi.temperature", "C", -3.5),
                ("fan_1_(0x41)", "hardware.ipmi.fan", "RPM", 0.0),
            ]
        );
    }

    #[test]
    fn what_is_no_list_of_sensors_is_not_taken_for_an_empty_one() {
        assert_eq!(sensors(""), Some(vec![]));
        assert_eq!(
            sensors("VBAT | 33h | ns | 7.1 | No Reading\n"),
            Some(vec![])
        );
        assert_eq!(sensors("Usage: ipmitool [options]\n"), None);
        assert_eq!(sensors("a | b | c | d | 1 Volts\n"), None);
        let line = |number| format!("S{number} | {number:x}h | ok | 7.1 | 1 Volts\n");
        let long: String = (0..=SENSORS_MAX).map(line).collect();
        assert_eq!(sensors(&long).unwrap().len(), SENSORS_MAX);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in any::<String>()) {
            power(&text);
            sensors(&text);
            sensors(&format!("a | 01h | ok | 7.1 | {text}"));
        }
    }
}
