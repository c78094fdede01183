-- Pass through: every bid. What reading and keeping rows costs.
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, date_time TIMESTAMP, extra STRING)
  WITH (connector = 'files', path = '${INPUT}/bid', format = 'json', max_files_per_trigger = 1,
        event_time = 'date_time', watermark_delay = '4 seconds');

CREATE TABLE q0 WITH (connector = 'memory', output_mode = 'append');

INSERT INTO q0
SELECT auction, bidder, price, date_time, extra FROM bid;
