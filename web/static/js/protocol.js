// Generated from signaling/messages.py. Do not edit; run: python -m signaling.generate > web/static/js/protocol.js

export const PROTOCOL_VERSION = 1;
export const MAX_MESSAGE_BYTES = 65536;
export const HEARTBEAT_MS = 2000;
/** @type {readonly string[]} */
export const CLIENT_MESSAGE_TYPES = Object.freeze([
  "join",
  "resume",
  "ping",
  "admit",
  "refuse",
  "publish",
  "subscribe",
  "answer",
  "pause",
  "media_state",
  "send_chat",
  "stats",
  "get_ice_servers",
  "leave",
  "finish",
]);
/** @type {readonly string[]} */
export const SERVER_MESSAGE_TYPES = Object.freeze([
  "welcome",
  "pong",
  "admitted",
  "started",
  "participant_changed",
  "participant_left",
  "published",
  "offer",
  "done",
  "ice_servers",
  "chat",
  "media_reset",
  "ended",
  "error",
]);

/** @typedef {"specialist" | "client" | "participant" | "viewer"} Role */
/** @typedef {"audio" | "video"} Kind */
/** @typedef {"camera" | "microphone" | "screen" | "screen_audio"} Source */
/** @typedef {"waiting" | "joined" | "reconnecting"} Presence */
/** @typedef {"finished" | "left" | "refused" | "removed" | "signed_out" | "cancelled" | "expired" | "replaced" | "server"} EndReason */
/** @typedef {"malformed" | "unknown_type" | "too_large" | "too_fast" | "not_allowed" | "not_admitted" | "no_participant" | "bad_ticket" | "bad_resume" | "join_first" | "bad_sdp" | "stale_revision" | "media_unavailable" | "unavailable" | "too_many" | "closed"} ErrorCode */

/**
 * First message of a new page: the ticket from POST /join/ID/ticket.
 * @typedef {object} Join
 * @property {"join"} type
 * @property {string} ticket
 * @property {1} [version]
 * @property {boolean} [microphone]
 * @property {boolean} [camera]
 */

/**
 * First message after a lost socket. `last_chat` is the id of the last chat line the page has.
 * @typedef {object} Resume
 * @property {"resume"} type
 * @property {string} token
 * @property {string | null} [last_chat]
 */

/**
 * Every 2 s at the latest; three missed ones and the hub takes the socket for lost.
 * @typedef {object} Ping
 * @property {"ping"} type
 * @property {number} n
 */

/**
 * Specialist: let a waiting participant in.
 * @typedef {object} Admit
 * @property {"admit"} type
 * @property {number} request
 * @property {string} participant
 */

/**
 * Specialist: turn a waiting participant away, or remove one who is in.
 * @typedef {object} Refuse
 * @property {"refuse"} type
 * @property {number} request
 * @property {string} participant
 */

/**
 * The publish connection's offer: first, renegotiated, or with new ICE credentials. `sources`: mid → source.
 * @typedef {object} Publish
 * @property {"publish"} type
 * @property {number} request
 * @property {string} offer
 * @property {{[key: string]: Source}} sources
 */

/**
 * Ask for an `offer` on the subscribe connection. fresh: start a new connection; restart: new ICE credentials.
 * @typedef {object} Subscribe
 * @property {"subscribe"} type
 * @property {number} request
 * @property {boolean} [fresh]
 * @property {boolean} [restart]
 */

/**
 * The answer to the `offer` of this revision.
 * @typedef {object} Answer
 * @property {"answer"} type
 * @property {number} request
 * @property {number} revision
 * @property {string} answer
 */

/**
 * Stop or resume receiving one track (hidden page, audio only).
 * @typedef {object} Pause
 * @property {"pause"} type
 * @property {number} request
 * @property {string} track
 * @property {boolean} paused
 */

/**
 * What this participant is sending now; the others see it.
 * @typedef {object} MediaState
 * @property {"media_state"} type
 * @property {boolean} microphone
 * @property {boolean} camera
 * @property {boolean} screen
 */

/**
 * `id` is chosen by the page: the same id again is the same line (a retry after a lost socket).
 * @typedef {object} SendChat
 * @property {"send_chat"} type
 * @property {number} request
 * @property {string} id
 * @property {string} text
 */

/**
 * One direction and source as the browser measured it over the last 5 s (W3C webrtc-stats).
 * @typedef {object} StatsSample
 * @property {"publish" | "subscribe"} direction
 * @property {Kind} kind
 * @property {Source} source
 * @property {number} bitrate_bps
 * @property {string} [codec]
 * @property {number | null} [loss]
 * @property {number | null} [rtt_ms]
 * @property {number | null} [jitter_ms]
 * @property {number | null} [width]
 * @property {number | null} [height]
 * @property {number | null} [frames_per_second]
 * @property {number | null} [freezes]
 */

/**
 * Every 5 s. Room for eight people: seven others with four tracks each, and one's own.
 * @typedef {object} Stats
 * @property {"stats"} type
 * @property {StatsSample[]} samples
 */

/**
 * TURN credentials live for ten minutes: ask for fresh ones before an ICE restart or a new connection.
 * @typedef {object} GetIceServers
 * @property {"get_ice_servers"} type
 * @property {number} request
 */

/**
 * Hang up. The seat stays: the page can join again with a new ticket while the consultation is open.
 * @typedef {object} Leave
 * @property {"leave"} type
 */

/**
 * Specialist: end the consultation for everybody.
 * @typedef {object} Finish
 * @property {"finish"} type
 * @property {number} request
 */

/**
 * Someone in the room. Only specialists see who waits. `admitted` false: in the waiting room (also while
 * `presence` is reconnecting). `since`: waiting or joined since, ISO 8601 UTC.
 * @typedef {object} ParticipantInfo
 * @property {string} id
 * @property {string} name
 * @property {Role} role
 * @property {Presence} presence
 * @property {boolean} admitted
 * @property {string} since
 * @property {boolean} microphone
 * @property {boolean} camera
 * @property {boolean} screen
 */

/**
 * @typedef {object} ChatLine
 * @property {string} id
 * @property {string} participant
 * @property {string} name
 * @property {string} text
 * @property {string} at
 */

/**
 * @typedef {object} IceServer
 * @property {string[]} urls
 * @property {string} username
 * @property {string} credential
 */

/**
 * @typedef {object} TrackInfo
 * @property {string} id
 * @property {string} participant
 * @property {Kind} kind
 * @property {Source} source
 */

/**
 * The snapshot. `you.admitted` says whether to wait. `participants` are the others. A page whose media is alive
 * and whose `media_session` is unchanged keeps its connections (also after a new `join`); otherwise it builds both
 * anew. `media_session` is empty while no media process is free: `media_reset` follows. After a resume `chat` has
 * only the lines after `last_chat`. `started_at`: since when two people talk.
 * @typedef {object} Welcome
 * @property {"welcome"} type
 * @property {ParticipantInfo} you
 * @property {string} consultation
 * @property {"end_to_end" | "transport"} encryption
 * @property {string} resume_token
 * @property {boolean} resumed
 * @property {number} heartbeat_ms
 * @property {string} media_session
 * @property {ParticipantInfo[]} participants
 * @property {ChatLine[]} chat
 * @property {IceServer[]} ice_servers
 * @property {string} server_time
 * @property {string | null} started_at
 * @property {string} closes_at
 */

/**
 * @typedef {object} Pong
 * @property {"pong"} type
 * @property {number} n
 */

/**
 * You are in: start media. `participants`, `chat` and `media_session` as in `welcome` (who waits sees none).
 * @typedef {object} Admitted
 * @property {"admitted"} type
 * @property {ParticipantInfo[]} participants
 * @property {ChatLine[]} chat
 * @property {string} media_session
 * @property {string | null} started_at
 */

/**
 * The second person is in: the conversation's clock runs from here.
 * @typedef {object} Started
 * @property {"started"} type
 * @property {string} started_at
 */

/**
 * Someone came, changed presence, or muted (also: a client now waits, told to specialists only).
 * @typedef {object} ParticipantChanged
 * @property {"participant_changed"} type
 * @property {ParticipantInfo} participant
 */

/**
 * @typedef {object} ParticipantLeft
 * @property {"participant_left"} type
 * @property {string} participant
 * @property {EndReason} reason
 */

/**
 * @typedef {object} Published
 * @property {"published"} type
 * @property {number} request
 * @property {string} answer
 */

/**
 * The subscribe connection's offer; answer with the same revision. `tracks`: mid → track.
 * @typedef {object} Offer
 * @property {"offer"} type
 * @property {number} revision
 * @property {string} offer
 * @property {{[key: string]: TrackInfo}} tracks
 */

/**
 * A request without a result of its own was carried out.
 * @typedef {object} Done
 * @property {"done"} type
 * @property {number} request
 */

/**
 * @typedef {object} IceServers
 * @property {"ice_servers"} type
 * @property {number} request
 * @property {IceServer[]} ice_servers
 */

/**
 * A line, also to the one who wrote it (there `done` follows). The same id may come twice: show it once.
 * @typedef {object} Chat
 * @property {"chat"} type
 * @property {ChatLine} line
 */

/**
 * The relay was replaced: build both connections anew under this media session.
 * @typedef {object} MediaReset
 * @property {"media_reset"} type
 * @property {string} media_session
 */

/**
 * The socket closes after this. `reason` picks the text. After `left` the page offers to return; after `server`
 * (a restart) it joins again by itself with a new ticket; media goes on meanwhile.
 * @typedef {object} Ended
 * @property {"ended"} type
 * @property {EndReason} reason
 */

/**
 * `request` is null when the message had none. The socket stays open, except when it answers `join` or `resume`
 * or says join_first, and after a flood (too_fast again and again). By whose fault: the page's (malformed,
 * unknown_type, too_large, join_first, bad_sdp, not_allowed, not_admitted, no_participant), a matter of time
 * (too_fast, stale_revision: a newer offer is on its way; bad_ticket, bad_resume: get a new ticket), ours
 * (unavailable, media_unavailable: try again in a second), final (closed, too_many).
 * @typedef {object} Error
 * @property {"error"} type
 * @property {ErrorCode} code
 * @property {string} message
 * @property {number | null} request
 */

/** @typedef {Join | Resume | Ping | Admit | Refuse | Publish | Subscribe | Answer | Pause | MediaState | SendChat | Stats | GetIceServers | Leave | Finish} ClientMessage */
/** @typedef {Welcome | Pong | Admitted | Started | ParticipantChanged | ParticipantLeft | Published | Offer | Done | IceServers | Chat | MediaReset | Ended | Error} ServerMessage */

const SERVER_TYPES = new Set(SERVER_MESSAGE_TYPES);

/**
 * A message as the text of a WebSocket frame.
 * @param {ClientMessage} message
 * @returns {string}
 */
export function encode(message) {
  return JSON.stringify(message);
}

/**
 * The message in a WebSocket frame; null for a type that this page does not know (the server is newer: ignore it).
 * @param {string} text
 * @returns {ServerMessage | null}
 */
export function decode(text) {
  const message = JSON.parse(text);
  return SERVER_TYPES.has(message.type) ? message : null;
}
