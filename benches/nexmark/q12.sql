-- Processing time windows: how many bids does a user make in ten seconds of the clock? now() is the batch's time.
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, date_time TIMESTAMP, extra STRING)
  WITH (connector = 'files', path = '${INPUT}/bid', format = 'json', max_files_per_trigger = 1,
        event_time = 'date_time', watermark_delay = '4 seconds');

CREATE TABLE q12 WITH (connector = 'memory', output_mode = 'update');

INSERT INTO q12
SELECT bidder, count(*) AS bids, window.start AS began
FROM (SELECT bidder, now() AS p_time FROM bid) GROUP BY bidder, window(p_time, '10 seconds');
