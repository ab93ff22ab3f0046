// The event through Envoy: visitors join, ask where they stand every 5 s, enter when they are called, and shop.
//
//   k6 run -e AT=http://127.0.0.1:8080 -e SCALE=0.02 event.js          `make k6` runs it against a demo of its own.
//
// Requests per second follow the stages of the load tests that the project comes from, times SCALE. Whoever of a VU's
// visitors is due to ask does; where nobody is, a new one joins. So the crowd is as large as the rate can keep informed.

import http from 'k6/http';
import { check } from 'k6';
import { Counter } from 'k6/metrics';

const AT = __ENV.AT || 'http://127.0.0.1:8080';
const SCALE = Number(__ENV.SCALE || 0.02);
const STAGE = __ENV.STAGE || '10s';
const STAGES = [1000, 5000, 10000, 20000, 30000];
const EVERY = 5000; // milliseconds between the polls of a visitor
const room = `${AT}/anteroom/v1/rooms/shop`;

const joined = new Counter('visitors_joined');
const entered = new Counter('visitors_entered');

export const options = {
  scenarios: {
    event: {
      executor: 'ramping-arrival-rate',
      startRate: Math.ceil(STAGES[0] * SCALE),
      timeUnit: '1s',
      preAllocatedVUs: 50,
      maxVUs: 500,
      stages: STAGES.flatMap((rate) => [
        { target: Math.ceil(rate * SCALE), duration: '0s' },
        { target: Math.ceil(rate * SCALE), duration: STAGE },
      ]),
    },
  },
  // Any wrong answer fails the run. There is none by time.
  thresholds: { checks: ['rate==1'] },
  summaryTrendStats: ['med', 'p(90)', 'p(99)', 'p(99.9)', 'max'],
  noCookiesReset: true,
};

// A room is known from the first request to it on.
export function setup() {
  const answer = http.get(`${AT}/shop`, { headers: { accept: 'application/json' } });
  if (![200, 429].includes(answer.status)) throw new Error(`${AT}/shop answers ${answer.status}; is the demo running?`);
}

// This VU's visitors, the one who asked longest ago first.
const visitors = [];

export default function () {
  const now = Date.now();
  if (visitors.length > 0 && visitors[0].due <= now) {
    watch(visitors.shift(), now);
  } else {
    join(now);
  }
}

function join(now) {
  const answer = ask('POST', '/join', null);
  const told = answer.json() || {};
  if (!check(answer, { 'join: 201 and a token': () => answer.status === 201 && (told.ticket || told.pass) })) return;
  joined.add(1);
  if (told.pass) return shop(told.pass);
  visitors.push({ ticket: told.ticket, position: told.position, due: now + EVERY });
}

function watch(visitor, now) {
  const answer = ask('GET', '/position', visitor.ticket);
  const told = answer.json() || {};
  if (told.status === 'called') return enter(visitor);
  const waits = answer.status === 200 && told.status === 'waiting' && told.position <= visitor.position;
  if (!check(answer, { 'watch: waiting, no further back than before': () => waits })) return;
  visitors.push({ ticket: visitor.ticket, position: told.position, due: now + EVERY });
}

function enter(visitor) {
  const answer = ask('POST', '/enter', visitor.ticket);
  const pass = (answer.json() || {}).pass;
  if (check(answer, { 'enter: 200 and a pass': () => answer.status === 200 && pass })) shop(pass);
}

function shop(pass) {
  const answer = http.get(`${AT}/shop`, {
    headers: { accept: 'application/json', 'x-anteroom-pass': pass },
    tags: { name: 'shop' },
  });
  if (check(answer, { 'shop: 200 from the backend': () => answer.status === 200 && answer.json('place') === 'shop' })) {
    entered.add(1);
  }
}

function ask(method, call, ticket) {
  const headers = { accept: 'application/json' };
  if (ticket) headers['x-anteroom-ticket'] = ticket;
  const answer = http.request(method, room + call, null, { headers, tags: { name: call.slice(1) } });
  // A VU keeps many visitors, and a cookie would make one of them all.
  http.cookieJar().clear(AT);
  return answer;
}
