-- Bounded side input: every bid with a value of a static table.
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, date_time TIMESTAMP, extra STRING)
  WITH (connector = 'files', path = '${INPUT}/bid', format = 'json', max_files_per_trigger = 1,
        event_time = 'date_time', watermark_delay = '4 seconds');

CREATE TABLE side_input (key BIGINT, value STRING)
  WITH (connector = 'files', path = '${INPUT}/side_input', format = 'json', static = 'true');

CREATE TABLE q13 WITH (connector = 'memory', output_mode = 'append');

INSERT INTO q13
SELECT b.auction, b.bidder, b.price, b.date_time, s.value
FROM bid b JOIN side_input s ON b.auction % 10000 = s.key;
