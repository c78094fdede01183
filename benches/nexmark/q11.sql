-- User sessions: how many bids does a user make until ten seconds pass without one?
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, date_time TIMESTAMP, extra STRING)
  WITH (connector = 'files', path = '${INPUT}/bid', format = 'json', max_files_per_trigger = 1,
        event_time = 'date_time', watermark_delay = '4 seconds');

CREATE TABLE q11 WITH (connector = 'memory', output_mode = 'append');

INSERT INTO q11
SELECT bidder, count(*) AS bids, session_window.start AS began, session_window.end AS ended
FROM bid GROUP BY bidder, session_window(date_time, '10 seconds');
