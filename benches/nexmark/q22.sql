-- Directories of the URL.
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, date_time TIMESTAMP, extra STRING)
  WITH (connector = 'files', path = '${INPUT}/bid', format = 'json', max_files_per_trigger = 1,
        event_time = 'date_time', watermark_delay = '4 seconds');

CREATE TABLE q22 WITH (connector = 'memory', output_mode = 'append');

INSERT INTO q22
SELECT auction, bidder, price, channel,
  split_part(url, '/', 4) AS dir1, split_part(url, '/', 5) AS dir2, split_part(url, '/', 6) AS dir3
FROM bid;
