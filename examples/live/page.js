const show = (id, text) => { document.getElementById(id).textContent = text };

function connect() {
    const socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/socket`);
    socket.onmessage = message => show('socket', message.data);
    socket.onclose = close => {
        show('socket', `closed: ${close.reason || close.code}`);
        // 4401: the session has ended. Otherwise the node stopped or was not sure: the guard looks again.
        if (close.code !== 4401) setTimeout(connect, 1000);
    };
}
connect();

const events = new EventSource('/events');
events.onmessage = message => show('events', message.data);
events.addEventListener('ended', message => {
    events.close();
    show('events', `closed: ${message.data}`);
});
