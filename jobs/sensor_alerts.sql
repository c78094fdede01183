-- Which pumps are about to fail? Each reading with too little pressure, beside who made the pump and who serviced it last.
-- The two tables about pumps are read whole at the start; only readings are waited for.
--
--   highwater generate sensors sensors
--   highwater run jobs/sensor_alerts.sql --set INPUT=sensors --available-now
--   cat out/sensor_alerts/alerts-*.json
--
-- --set PSI=3 asks for less pressure, --set OUTPUT=DIR puts the files elsewhere; both want a checkpoint of their own
-- (--checkpoint DIR).
CREATE TABLE readings (time TIMESTAMP, resid STRING, psi DOUBLE, flow DOUBLE)
  WITH (connector = 'files', path = '${INPUT}/readings', format = 'json', max_files_per_trigger = 1);

CREATE TABLE vendor (resid STRING, model STRING, vendor STRING)
  WITH (connector = 'files', path = '${INPUT}/vendor.csv', format = 'csv', header = 'true', static = 'true');

CREATE TABLE maintenance (resid STRING, serviced DATE, technician STRING)
  WITH (connector = 'files', path = '${INPUT}/maintenance.csv', format = 'csv', header = 'true', static = 'true');

CREATE TABLE alerts WITH (
  connector = 'files', path = '${OUTPUT:-out/sensor_alerts}', format = 'json', output_mode = 'append'
);

-- a pump of no known vendor is none of ours; one that was never serviced is
INSERT INTO alerts
SELECT r.time, r.resid, r.psi, v.model, v.vendor, m.serviced, m.technician
FROM readings r
JOIN vendor v ON r.resid = v.resid
LEFT JOIN maintenance m ON r.resid = m.resid
WHERE r.psi < ${PSI:-5};
